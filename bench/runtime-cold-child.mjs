// One fresh process of the cold start benchmark: loads in one way, runs once, prints the milliseconds. Uses what `npm run build` compiled.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const { way, files, feeds, outputs, zoo, model, waits, follows, settles } = JSON.parse(process.argv[2])
/** milliseconds since the process began, at the end of each stage */
const at = { process: performance.now() }
const mark = (stage) => {
  at[stage] = performance.now()
}

const zeros = () =>
  Object.fromEntries(
    feeds.map(({ name, dims }) => [
      name,
      { type: 'float32', dims, data: new Float32Array(dims.reduce((product, size) => product * size, 1)) },
    ]),
  )

if (way === 'original') {
  const ort = await import('onnxruntime-node')
  mark('imports')
  const session = await ort.InferenceSession.create(files[0], {
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
    logSeverityLevel: 4,
  })
  mark('open')
  const given = Object.entries(zeros()).map(([name, { type, data, dims }]) => [name, new ort.Tensor(type, data, dims)])
  await session.run(Object.fromEntries(given))
} else if (way === 'runtime') {
  const { openRuntime } = await import('../dist/runtime/index.js')
  const { decodePicture } = await import('../dist/tensor/index.js')
  mark('modules')
  const picture = await decodePicture(readFileSync(files[0]))
  mark('imports')
  // Who waits for what is planned takes reading for nothing.
  const runtime = await openRuntime({
    zoo,
    models: [model],
    workers: 1,
    ...(waits ? { readingMs: async () => 0 } : {}),
  })
  mark('open')
  const next = new Promise((resolve) => runtime.events(({ kind }) => kind === 'swap' && resolve(performance.now())))
  const { plan, choices } = await runtime.predict(model, picture)
  mark('answer')
  const more = { gear: runtime.live().models[0].gear, remembered: runtime.live().plan.solveMs === 0, choices }
  // What begins with other blocks goes on to the planned ones.
  const late = new Promise((resolve) => setTimeout(resolve, 5_000))
  if (follows) more.followedMs = runtime.live().id === plan ? await Promise.race([next, late]) : at.answer
  print(more)
  await runtime.close()
} else if (way === 'service') {
  // Until what a service makes in its first moments is there: compiled blocks, the fused graph, the plan that is kept.
  const { openRuntime } = await import('../dist/runtime/index.js')
  const runtime = await openRuntime({ zoo, models: [model], workers: 1 })
  const until = performance.now() + 120_000
  while (runtime.live().models[0].gear !== 'fused' && performance.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  // And all other descendants, where that is asked for: they come one by one.
  const compiled = () => readdirSync(join(zoo, '.device'), { recursive: true }).length
  for (let before = 0; settles && before < compiled() && performance.now() < until; ) {
    before = compiled()
    await new Promise((resolve) => setTimeout(resolve, 4_000))
  }
  print({ gear: runtime.live().models[0].gear })
  await runtime.close()
} else {
  const { openCompiledNow } = await import('../dist/engine/index.js')
  mark('imports')
  const values = zeros()
  for (const file of files) {
    Object.assign(values, openCompiledNow(file).runNow(values))
  }
  if (outputs.some((name) => !values[name])) throw new Error('there is no answer')
}
if (way !== 'runtime' && way !== 'service') print()

function print(more = {}) {
  at.answer ??= performance.now()
  console.log(JSON.stringify({ ms: at.answer - at.imports, withProcessMs: at.answer, at, ...more }))
}

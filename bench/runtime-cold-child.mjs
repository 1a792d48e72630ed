// One fresh process of the cold start benchmark: loads in one way, runs once, prints the milliseconds. Uses what `npm run build` compiled.
import { readFileSync } from 'node:fs'

const { way, files, feeds, outputs, zoo, model } = JSON.parse(process.argv[2])
const processMs = performance.now()
let startedAt = 0

const zeros = () =>
  Object.fromEntries(
    feeds.map(({ name, dims }) => [
      name,
      { type: 'float32', dims, data: new Float32Array(dims.reduce((product, size) => product * size, 1)) },
    ]),
  )

if (way === 'original') {
  const ort = await import('onnxruntime-node')
  startedAt = performance.now()
  const session = await ort.InferenceSession.create(files[0], {
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
    logSeverityLevel: 4,
  })
  const given = Object.entries(zeros()).map(([name, { type, data, dims }]) => [name, new ort.Tensor(type, data, dims)])
  await session.run(Object.fromEntries(given))
} else if (way === 'runtime') {
  const { openRuntime } = await import('../dist/runtime/index.js')
  const { decodePicture } = await import('../dist/tensor/index.js')
  const picture = await decodePicture(readFileSync(files[0]))
  startedAt = performance.now()
  const runtime = await openRuntime({ zoo, models: [model], workers: 1 })
  await runtime.predict(model, picture)
  print()
  await runtime.close()
} else {
  const { openCompiledNow } = await import('../dist/engine/index.js')
  startedAt = performance.now()
  const values = zeros()
  for (const file of files) {
    Object.assign(values, openCompiledNow(file).runNow(values))
  }
  if (outputs.some((name) => !values[name])) throw new Error('there is no answer')
}
if (way !== 'runtime') print()

function print() {
  const now = performance.now()
  console.log(JSON.stringify({ ms: now - startedAt, withProcessMs: now, processMs }))
}

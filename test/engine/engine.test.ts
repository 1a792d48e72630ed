import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { startWorker } from '../../src/base/index.ts'
import {
  choosePacking,
  Engine,
  openCompiled,
  openSession,
  type SessionHold,
  sharedNow,
} from '../../src/engine/index.ts'
import type { Model } from '../../src/onnx/index.ts'
import { floats, numbersOf } from '../../src/tensor/index.ts'
import { adder, burner, bytesOf, forked, widened } from './tiny.ts'

const folder = mkdtempSync(join(tmpdir(), 'engine-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** Compiles a model to a mappable file, as the builder does. */
async function compiled(name: string, of: Model): Promise<string> {
  const path = join(folder, `${name}.ort`)
  const session = await openSession(bytesOf(of), { saveOptimizedTo: path })
  await session.release()
  return path
}

const engine = new Engine()
afterAll(() => engine.close())

const holds: SessionHold[] = []
async function hold(...keys: string[]): Promise<void> {
  for (const key of keys) holds.push(await engine.hold(key, paths[key]!))
}
afterEach(async () => {
  for (const each of holds.splice(0)) await each.release()
  expect(engine.sessions).toEqual([])
})

/** Whether this process has a file in its memory. */
const mapped = (path: string): boolean => readFileSync('/proc/self/maps', 'utf8').includes(path)

const one = () => ({ x: floats([1, 4], [1, 1, 1, 1]) })
const paths: Record<string, string> = {}
beforeAll(async () => {
  paths.a = await compiled('a', adder('x', 'y', 10))
  paths.b = await compiled('b', adder('y', 'z', 200))
  paths.fork = await compiled('fork', forked('z', ['n', 'd']))
  paths.slow1 = await compiled('slow1', burner('x', 'y', 60))
  paths.slow2 = await compiled('slow2', burner('y', 'z', 60))
})

describe('an engine', () => {
  it('runs a chain of mapped blocks by the names of their values', async () => {
    await hold('a', 'b', 'fork')
    const { outputs, stepMs } = await engine.run({ chain: ['a', 'b', 'fork'], feeds: one(), outputs: ['n', 'z', 'd'] })
    expect(numbersOf(outputs.z!)).toEqual([211, 211, 211, 211])
    expect(numbersOf(outputs.n!)).toEqual([-211, -211, -211, -211])
    expect(outputs.d!.dims).toEqual([1, 8])
    expect(stepMs).toHaveLength(3)
  })

  it('streams blocks that do not stay loaded, also when their files have gone meanwhile', async () => {
    const path = await compiled('gone', adder('y', 'z', 200))
    await hold('a', 'fork')
    holds.push(await engine.hold('gone', path, { memoryBytes: 1, passing: { inputs: ['y'], outputs: ['z'] } }))
    if (process.platform === 'linux') rmSync(path)
    for (const windowBytes of [undefined, 1, 1e6]) {
      const run = { chain: ['a', 'gone', 'fork'], feeds: one(), outputs: ['n'], windowBytes }
      const { outputs, stepMs } = await engine.run(run)
      expect(numbersOf(outputs.n!)).toEqual([-211, -211, -211, -211])
      expect(stepMs).toHaveLength(3)
    }
    if (process.platform === 'linux') expect(mapped(path)).toBe(false)
  })

  it('moves tensors instead of copying them', async () => {
    await hold('a')
    const feeds = one()
    await engine.run({ chain: ['a'], feeds, outputs: ['y'] })
    expect(feeds.x.data.length).toBe(0)
  })

  it('uses the memory of values between blocks again, whatever is asked for from run to run', async () => {
    await hold('a', 'b', 'fork')
    const run = (outputs: string[], start: number) =>
      engine.run({ chain: ['a', 'b', 'fork'], feeds: { x: floats([1, 4], Array(4).fill(start)) }, outputs })
    for (const start of [1, 2, 3]) {
      const { outputs } = await run(['n'], start)
      expect(numbersOf(outputs.n!)[0]).toBe(-210 - start)
    }
    // A value that was inner before is an output now, and moves away with the answer.
    const { outputs } = await run(['y', 'z', 'n'], 5)
    expect([outputs.y!, outputs.z!, outputs.n!].map((value) => numbersOf(value)[0])).toEqual([15, 215, -215])
    expect(numbersOf((await run(['n'], 6)).outputs.n!)[0]).toBe(-216)
  })

  it('shares a session between holders and lets it go with the last', async () => {
    const [first, second] = await Promise.all([engine.hold('a', paths.a!), engine.hold('a', paths.a!)])
    await first.release()
    await first.release()
    await engine.run({ chain: ['a'], feeds: one(), outputs: ['y'] })
    await second.release()
    expect(engine.sessions).toEqual([])
    await expect(engine.run({ chain: ['a'], feeds: one(), outputs: ['y'] })).rejects.toMatchObject({
      code: 'ENGINE_FAILED',
    })
  })

  it('says why a file cannot be loaded, and works on', async () => {
    writeFileSync(join(folder, 'broken.onnx'), 'no model')
    await expect(engine.hold('broken', join(folder, 'broken.onnx'))).rejects.toMatchObject({
      code: 'MODEL_UNSUPPORTED',
    })
    await hold('a')
    await engine.run({ chain: ['a'], feeds: one(), outputs: ['y'] })
  })

  it('refuses feeds and outputs that the chain does not know', async () => {
    await hold('a')
    const wrongFeed = engine.run({ chain: ['a'], feeds: { other: one().x }, outputs: ['y'] })
    await expect(wrongFeed).rejects.toMatchObject({ code: 'TENSOR_INVALID' })
    const wrongOutput = engine.run({ chain: ['a'], feeds: one(), outputs: ['q'] })
    await expect(wrongOutput).rejects.toMatchObject({ code: 'TENSOR_INVALID' })
  })

  it('checks a block against its border', async () => {
    await hold('a')
    const port = (name: string, dims: number[]) => ({ name, type: 'float32' as const, dims })
    await engine.check(['a'], [port('x', [1, 4])], [port('y', [1, 4])])
    await expect(engine.check(['a'], [port('x', [1, 4])], [port('y', [1, 8])])).rejects.toMatchObject({
      code: 'GRAPH_INVALID',
    })
  })
})

describe('between two blocks', () => {
  const slow = () => ({ x: floats([256, 256], new Float32Array(256 * 256)) })

  it('a deadline stops a run', async () => {
    await hold('slow1', 'slow2')
    const late = engine.run({
      chain: ['slow1', 'slow2'],
      feeds: slow(),
      outputs: ['z'],
      deadline: sharedNow() + 2,
    })
    await expect(late).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' })
  })

  it('a caller who gives up stops a run', async () => {
    await hold('slow1', 'slow2')
    const controller = new AbortController()
    const given = engine.run({
      // so long that nobody gives up too late, however busy this thread is
      chain: Array.from({ length: 200 }, () => ['slow1', 'slow2']).flat(),
      feeds: slow(),
      outputs: ['z'],
      signal: controller.signal,
    })
    setTimeout(() => controller.abort(), 1)
    await expect(given).rejects.toMatchObject({ code: 'CANCELLED' })
  })
})

describe('a thread that dies', () => {
  const opened: Engine[] = []
  /** what a test tells its threads through; a thread does not end while it is open */
  const ports: MessagePort[] = []
  afterAll(() => {
    for (const port of ports.splice(0)) port.close()
    return Promise.all(opened.map((each) => each.close()))
  })

  const mortal = () => {
    const threads: Worker[] = []
    const told: { why: string; requests: number }[] = []
    const engine = new Engine({
      start: () => {
        const thread = startWorker(new URL('../../src/engine/engine-worker.ts', import.meta.url))
        threads.push(thread)
        return thread
      },
      onReplaced: (why, requests) => told.push({ why, requests }),
    })
    // A message that no engine knows is an error nobody catches, which is how a thread dies of a fault of its own.
    opened.push(engine)
    return { engine, told, kill: () => threads.at(-1)!.postMessage({ kind: 'nonsense' }) }
  }

  it('is replaced by one with the same sessions; only the runs that were with it get an error', async () => {
    const { engine, told, kill } = mortal()
    await Promise.all([engine.hold('slow1', paths.slow1!), engine.hold('a', paths.a!)])
    kill()
    const lost = engine.run({ chain: ['a'], feeds: one(), outputs: ['y'] })
    await expect(lost).rejects.toMatchObject({ code: 'ENGINE_LOST' })
    // Asked while there is no thread: waits for the new one.
    const { outputs } = await engine.run({ chain: ['a'], feeds: one(), outputs: ['y'] })
    expect(numbersOf(outputs.y!)).toEqual([11, 11, 11, 11])
    expect(told).toHaveLength(1)
    expect(told[0]).toMatchObject({ requests: 1 })
    expect(engine.replaced).toBe(1)
  })

  /** What may happen inside a thread, done there when the port is told so. */
  const faults = {
    throws: `setImmediate(() => { throw new Error('a fault of its own') })`,
    exits: 'process.exit(7)',
    'runs out of memory': 'const kept = []; for (;;) kept.push(new Array(1000).fill(Math.random()))',
  }

  it.each(Object.entries(faults))(
    'that %s is replaced; every run is answered or refused, and another engine never notices',
    async (_, fault) => {
      const worker = pathToFileURL(
        createRequire(import.meta.url)
          .resolve('tsx/esm/api')
          .replace(/\.cjs$/, '.mjs'),
      ).href
      const url = new URL('../../src/engine/engine-worker.ts', import.meta.url).href
      const script = `
      require('node:worker_threads').workerData.once('message', () => { ${fault} })
      import('${worker}').then(({ register }) => { register(); return import('${url}') })`
      const told: string[] = []
      let faulty: MessagePort | undefined
      const engine = new Engine({
        start() {
          const { port1, port2 } = new MessageChannel()
          ports.push(port1)
          faulty ??= port1
          const resourceLimits = { maxOldGenerationSizeMb: 48 }
          return new Worker(script, { eval: true, workerData: port2, transferList: [port2], resourceLimits })
        },
        onReplaced: (why) => told.push(why),
      })
      const other = new Engine()
      opened.push(engine, other)
      for (const each of [engine, other]) await each.hold('slow1', paths.slow1!)
      const square = () => ({ x: floats([256, 256], new Float32Array(65536).fill(3)) })
      const runs = (on: Engine) =>
        Array.from({ length: 20 }, () =>
          on.run({ chain: ['slow1'], feeds: square(), outputs: ['y'] }).then(
            ({ outputs }) => numbersOf(outputs.y!)[65535],
            ({ code }) => code,
          ),
        )
      const mine = runs(engine)
      const others = runs(other)
      await mine[0]
      faulty!.postMessage('now')
      const ends = await Promise.all(mine)
      expect(ends.filter((end) => end !== 3 && end !== 'ENGINE_LOST')).toEqual([])
      expect(await Promise.all(others)).toEqual(Array(20).fill(3))
      // A thread may do many runs until it has run out of memory.
      while (told.length === 0) {
        const later = await Promise.all(runs(engine))
        expect(later.filter((end) => end !== 3 && end !== 'ENGINE_LOST')).toEqual([])
      }
      expect(await Promise.all(runs(engine))).toEqual(Array(20).fill(3))
      expect(told).toHaveLength(1)
      expect([engine.replaced, other.replaced]).toEqual([1, 0])
    },
  )

  it('a run for which there is no memory is refused with the reason, and the thread goes on', async () => {
    const { engine, told } = mortal()
    await engine.hold('bomb', await compiled('bomb', widened('x', 'y', 2 ** 44)))
    await engine.hold('a', paths.a!)
    await expect(engine.run({ chain: ['bomb'], feeds: one(), outputs: ['y'] })).rejects.toMatchObject({
      code: 'ENGINE_FAILED',
      message: expect.stringMatching(/alloc/i),
    })
    const { outputs } = await engine.run({ chain: ['a'], feeds: one(), outputs: ['y'] })
    expect(numbersOf(outputs.y!)).toEqual([11, 11, 11, 11])
    expect(told).toEqual([])
  })

  it('again and again before it answers is told to callers, who do not wait for ever', async () => {
    const doomed = new Engine({ start: () => new Worker('throw new Error("no such library")', { eval: true }) })
    opened.push(doomed)
    await expect(doomed.hold('a', paths.a!)).rejects.toMatchObject({
      code: 'ENGINE_FAILED',
      message: expect.stringContaining('no such library'),
    })
  })

  it('does not lose a load that was under way', async () => {
    const { engine, kill } = mortal()
    kill()
    const hold = await engine.hold('a', paths.a!)
    const { outputs } = await engine.run({ chain: [hold.key], feeds: one(), outputs: ['y'] })
    expect(numbersOf(outputs.y!)).toEqual([11, 11, 11, 11])
  })
})

it('closing finishes what was accepted', async () => {
  const engine = new Engine()
  await engine.hold('slow1', paths.slow1!)
  const runs = Array.from({ length: 3 }, () =>
    engine.run({ chain: ['slow1'], feeds: { x: floats([256, 256], new Float32Array(65536)) }, outputs: ['y'] }),
  )
  await engine.close()
  const done = await Promise.all(runs)
  expect(done).toHaveLength(3)
  await expect(engine.run({ chain: ['slow1'], feeds: one(), outputs: ['y'] })).rejects.toMatchObject({
    code: 'ENGINE_FAILED',
  })
})

describe('a compiled file', () => {
  it('answers the same whether its weights are used as mapped or copied', async () => {
    const path = await compiled('packed', burner('x', 'y', 4, 8))
    const square = () => ({
      x: floats(
        [8, 8],
        Float32Array.from({ length: 64 }, (_, i) => i),
      ),
    })
    const answers: number[][] = []
    await choosePacking(path, square())
    for (const prepacking of [true, false]) {
      const session = await openSession(path, { memoryMapped: true, optimization: 'disabled', prepacking })
      answers.push(numbersOf((await session.run(square())).y!))
      await session.release()
    }
    const session = await openCompiled(path)
    answers.push(numbersOf((await session.run(square())).y!))
    await session.release()
    expect(answers[1]).toEqual(answers[0])
    expect(answers[2]).toEqual(answers[0])
  })

  it('that is marked is used as mapped', async () => {
    const path = await compiled('marked', adder('x', 'y', 1))
    appendFileSync(path, '\nused as mapped')
    const session = await openCompiled(path)
    expect(numbersOf((await session.run(one())).y!)).toEqual([2, 2, 2, 2])
    await session.release()
  })
})

import { parentPort } from 'node:worker_threads'
import { asBlockscaleError, BlockscaleError } from '../base/index.ts'
import { allocate, elementCount, type NumericType, type Tensor } from '../tensor/index.ts'
import { type EngineAnswer, type EngineCall, sharedNow, transferable } from './messages.ts'
import { openSession, type Session, type Tensors } from './session.ts'

/**
 * The thread of one engine: holds sessions, runs chains of them, one call after another.
 *
 * It never compiles: what it loads is mapped. Anything unexpected ends the thread; the engine starts another.
 */
const port = parentPort!
const sessions = new Map<string, Session>()
const accepted = new Set<number>()
const cancelled = new Set<number>()
let tail: Promise<void> = Promise.resolve()

port.on('message', (message: EngineCall) => {
  if (message.kind === 'cancel') {
    if (accepted.has(message.call)) cancelled.add(message.call)
    return
  }
  if (message.kind === 'stop') {
    tail = tail.then(stop)
    return
  }
  accepted.add(message.call)
  tail = tail.then(async () => {
    const answer = await handle(message)
    accepted.delete(message.call)
    cancelled.delete(message.call)
    port.postMessage(answer, answer.kind === 'outputs' ? transferable(answer.outputs) : [])
  })
})

async function stop(): Promise<void> {
  for (const session of sessions.values()) await session.release()
  sessions.clear()
  port.close()
}

async function handle(message: Exclude<EngineCall, { kind: 'cancel' | 'stop' }>): Promise<EngineAnswer> {
  const { call } = message
  const started = sharedNow()
  try {
    switch (message.kind) {
      case 'load':
        if (!sessions.has(message.key)) {
          sessions.set(message.key, await openSession(message.path, { memoryMapped: message.path.endsWith('.ort') }))
        }
        return { kind: 'loaded', call, ms: sharedNow() - started }
      case 'release':
        await sessions.get(message.key)?.release()
        sessions.delete(message.key)
        return { kind: 'released', call }
      case 'check':
        return { kind: 'checked', call, shapes: await check(message), ms: sharedNow() - started }
      case 'run': {
        const { outputs, stepMs } = await run(message)
        return { kind: 'outputs', call, outputs, startedAt: started, ms: sharedNow() - started, stepMs }
      }
    }
  } catch (thrown) {
    const { code, message: text, hint } = asBlockscaleError(thrown)
    return { kind: 'failed', call, code, message: text, hint }
  }
  throw new Error(`an engine was asked something that it does not know: ${JSON.stringify(message)}`)
}

function sessionOf(key: string): Session {
  const session = sessions.get(key)
  if (!session) throw new BlockscaleError('ENGINE_FAILED', `the block ${key.slice(0, 12)} is not loaded`)
  return session
}

/** Runs a chain. Values stay in this thread; those that no later block reads are let go at once. */
async function run(
  message: Omit<EngineCall & { kind: 'run' }, 'kind'>,
  seen: (name: string, value: Tensor) => void = () => {},
): Promise<{ outputs: Tensors; stepMs: number[] }> {
  const chain = message.chain.map(sessionOf)
  const wanted = new Set(message.outputs)
  const lastUse = new Map<string, number>()
  chain.forEach((session, step) => {
    for (const name of session.inputs) lastUse.set(name, step)
  })
  const values = new Map<string, Tensor>(Object.entries(message.feeds))
  const stepMs: number[] = []
  for (const [step, session] of chain.entries()) {
    const started = sharedNow()
    stopIfUnwanted(message, started)
    const feeds: Record<string, Tensor> = {}
    for (const name of session.inputs) {
      const value = values.get(name)
      if (!value) throw new BlockscaleError('TENSOR_INVALID', `the input ${name} is missing`)
      feeds[name] = value
    }
    const needed = session.outputs.filter((name) => wanted.has(name) || (lastUse.get(name) ?? -1) > step)
    if (needed.length > 0) {
      for (const [name, value] of Object.entries(await session.run(feeds, needed))) {
        values.set(name, value)
        seen(name, value)
      }
    }
    for (const name of session.inputs) if (lastUse.get(name) === step && !wanted.has(name)) values.delete(name)
    stepMs.push(sharedNow() - started)
  }
  const outputs: Record<string, Tensor> = {}
  for (const name of message.outputs) {
    const value = values.get(name)
    if (!value) throw new BlockscaleError('TENSOR_INVALID', `the model has no output ${name}`)
    outputs[name] = value
  }
  return { outputs, stepMs }
}

function stopIfUnwanted({ call, deadline }: { call: number; deadline?: number | undefined }, now: number): void {
  if (cancelled.has(call)) throw new BlockscaleError('CANCELLED', 'the request was given up')
  if (deadline !== undefined && now > deadline) {
    throw new BlockscaleError(
      'DEADLINE_EXCEEDED',
      `the deadline passed ${(now - deadline).toFixed(1)} ms before the network was done`,
    )
  }
}

/** Runs a chain once on zeros: that it runs at all, gives what its border promises, and no NaN. */
async function check({ call, chain, inputs, outputs }: EngineCall & { kind: 'check' }) {
  const shapes: Record<string, readonly number[]> = {}
  const feeds: Record<string, Tensor> = {}
  for (const { name, type, dims } of inputs) {
    if (type === 'string') throw new BlockscaleError('MODEL_UNSUPPORTED', `the border value ${name} holds strings`)
    const sizes = dims.map((size) => size ?? 1)
    shapes[name] = sizes
    feeds[name] = { type, dims: sizes, data: allocate(type as NumericType, elementCount(sizes)) } as Tensor
  }
  const names = outputs.map(({ name }) => name)
  const { outputs: given } = await run({ call, chain, feeds, outputs: names }, (name, { dims }) => {
    shapes[name] = dims
  })
  for (const { name, type, dims } of outputs) {
    const value = given[name]
    const found = value ? `${value.type}[${value.dims.join(', ')}]` : 'nothing'
    const fits = value?.type === type && value.dims.length === dims.length
    if (!fits || value.dims.some((size, i) => dims[i] !== null && dims[i] !== size)) {
      const border = `${type}[${dims.map((size) => size ?? '?').join(', ')}]`
      throw new BlockscaleError(
        'GRAPH_INVALID',
        `a loaded block gives ${found} for ${name} where its border is ${border}`,
      )
    }
    if (value.type === 'float32' && (value.data as Float32Array).some(Number.isNaN)) {
      throw new BlockscaleError('GRAPH_INVALID', `a loaded block gives NaN for ${name} when it is fed zeros`)
    }
  }
  return shapes
}

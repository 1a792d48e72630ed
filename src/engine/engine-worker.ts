import { parentPort, receiveMessageOnPort } from 'node:worker_threads'
import { asBlockscaleError, BlockscaleError } from '../base/index.ts'
import { allocate, elementCount, type Tensor } from '../tensor/index.ts'
import { openCompiled } from './compiled.ts'
import { discard } from './discard.ts'
import { type EngineAnswer, type EngineCall, sharedNow, transferable } from './messages.ts'
import { loadLibrary } from './native.ts'
import { readAhead } from './read-ahead.ts'
import { fromOrt, openSession, type Session, type Tensors } from './session.ts'
import { Streamed } from './streamed.ts'

/**
 * The thread of one engine: holds sessions, runs chains of them, one call after another.
 *
 * It never compiles: what it loads is mapped. Anything unexpected ends the thread; the engine starts another.
 */
const port = parentPort!
// While the files that come first are still looked for.
loadLibrary()
interface Loaded {
  /** mapped already, or to be mapped for each run */
  readonly from: Session | Streamed
  /** what it takes of a window while it runs */
  readonly windowBytes: number
  /** outputs that only later blocks read, of the last run: written again by the next one with inputs of the same shapes */
  kept: { shapes: string; tensors: Record<string, Tensor> }
}
const sessions = new Map<string, Loaded>()
const accepted = new Set<number>()
const cancelled = new Set<number>()
let tail: Promise<void> = Promise.resolve()

port.on('message', receive)

function receive(message: EngineCall): void {
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
}

async function stop(): Promise<void> {
  for (const loaded of sessions.values()) await letGo(loaded)
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
          const { path, windowed } = message
          const from = windowed?.passing ? new Streamed(path, windowed.passing) : await open(path, !windowed)
          sessions.set(message.key, {
            from,
            windowBytes: windowed?.memoryBytes ?? 0,
            kept: { shapes: '', tensors: {} },
          })
          programs.clear()
        }
        return { kind: 'loaded', call, ms: sharedNow() - started }
      case 'release':
        await letGo(sessions.get(message.key))
        sessions.delete(message.key)
        programs.clear()
        return { kind: 'released', call }
      case 'check':
        return { kind: 'checked', call, shapes: check(message), ms: sharedNow() - started }
      case 'run': {
        const { outputs, stepMs } = run(message)
        return { kind: 'outputs', call, outputs, startedAt: started, ms: sharedNow() - started, stepMs }
      }
    }
  } catch (thrown) {
    const { code, message: text, hint } = asBlockscaleError(thrown)
    return { kind: 'failed', call, code, message: text, hint }
  }
  throw new Error(`an engine was asked something that it does not know: ${JSON.stringify(message)}`)
}

const open = (path: string, keepsMemory: boolean): Promise<Session> =>
  path.endsWith('.ort') ? openCompiled(path, { keepsMemory }) : openSession(path, { keepsMemory })

async function letGo(loaded: Loaded | undefined): Promise<void> {
  if (!loaded) return
  if (loaded.from instanceof Streamed) loaded.from.close()
  else await loaded.from.release()
  discard(loaded.kept.tensors)
}

function loadedOf(key: string): Loaded {
  const loaded = sessions.get(key)
  if (!loaded) throw new BlockscaleError('ENGINE_FAILED', `the block ${key.slice(0, 12)} is not loaded`)
  return loaded
}

/** One session of a chain and what becomes of its values. */
interface Step {
  readonly loaded: Loaded
  /** outputs that a later step or the caller reads */
  readonly needed: readonly string[]
  /** those of them that only later steps read */
  readonly inner: readonly string[]
  /** values that no later step reads */
  readonly done: readonly string[]
}

/** What is to be in memory of the files that come next, in the order in which they come. */
type Ahead = readonly { readonly file: Streamed; readonly bytes: number }[]

interface Program {
  readonly steps: readonly Step[]
  /** while each step runs, and at the end between two runs; empty where nothing is to be read ahead */
  readonly ahead: readonly Ahead[]
}

/** Chains that were run lately, by their keys, outputs and window; forgotten when a session comes or goes. */
const programs = new Map<string, Program>()

function programOf(chain: readonly string[], outputs: readonly string[], windowBytes: number | undefined): Program {
  const name = [...chain, windowBytes, ...outputs].join(' ')
  const known = programs.get(name)
  if (known) return known
  const wanted = new Set(outputs)
  const lastUse = new Map<string, number>()
  const sessionsOf = chain.map(loadedOf)
  sessionsOf.forEach(({ from }, step) => {
    for (const input of from.inputs) lastUse.set(input, step)
  })
  const steps = sessionsOf.map((loaded, step): Step => {
    const { from } = loaded
    const needed = from.outputs.filter((each) => wanted.has(each) || (lastUse.get(each) ?? -1) > step)
    return {
      loaded,
      needed,
      inner: needed.filter((each) => !wanted.has(each)),
      done: from.inputs.filter((each) => lastUse.get(each) === step && !wanted.has(each)),
    }
  })
  const program = { steps, ahead: windowBytes === undefined ? [] : aheadOf(sessionsOf, windowBytes) }
  programs.set(name, program)
  return program
}

function aheadOf(chain: readonly Loaded[], windowBytes: number): Ahead[] {
  const files = chain.map(({ from }) => (from instanceof Streamed ? from : undefined))
  const steps = chain.map((each, i) => ({ memoryBytes: each.windowBytes, passingBytes: files[i]?.fileBytes ?? 0 }))
  return readAhead(steps, windowBytes).map((ahead) => ahead.map(({ step, bytes }) => ({ file: files[step]!, bytes })))
}

/**
 * Runs a chain without a pause, so that being cut costs a call for each block and nothing else.
 *
 * Values stay in this thread; those that no later block reads are let go at once.
 */
function run(
  message: Omit<EngineCall & { kind: 'run' }, 'kind'>,
  seen: (name: string, value: Tensor) => void = () => {},
): { outputs: Tensors; stepMs: number[] } {
  const values = new Map<string, Tensor>(Object.entries(message.feeds))
  const stepMs: number[] = []
  const { steps, ahead } = programOf(message.chain, message.outputs, message.windowBytes)
  for (const [i, step] of steps.entries()) {
    const { loaded, needed, done } = step
    const started = sharedNow()
    stopIfUnwanted(message, started)
    const feeds: Record<string, Tensor> = {}
    for (const name of loaded.from.inputs) {
      const value = values.get(name)
      if (!value) throw new BlockscaleError('TENSOR_INVALID', `the input ${name} is missing`)
      feeds[name] = value
    }
    if (needed.length > 0) {
      for (const [name, value] of Object.entries(runStep(step, feeds, ahead[i]))) {
        values.set(name, value)
        seen(name, value)
      }
    }
    for (const name of done) values.delete(name)
    stepMs.push(sharedNow() - started)
  }
  read(ahead[steps.length])
  const outputs: Record<string, Tensor> = {}
  for (const name of message.outputs) {
    const value = values.get(name)
    if (!value) throw new BlockscaleError('TENSOR_INVALID', `the model has no output ${name}`)
    outputs[name] = fromOrt(value)
  }
  // A value that is asked for may be one that was given.
  const given = Object.entries(message.feeds).filter(([name]) => !message.outputs.includes(name))
  discard(Object.fromEntries(given))
  return { outputs, stepMs }
}

/** Runs a block while those that come next are read; one that is streamed is mapped before it and let go after it. */
function runStep({ loaded, needed, inner }: Step, feeds: Tensors, ahead: Ahead | undefined): Tensors {
  const { from } = loaded
  if (!(from instanceof Streamed)) {
    read(ahead)
    return runInto(loaded, from, feeds, needed, inner)
  }
  const session = from.open()
  try {
    read(ahead)
    return runInto(loaded, session, feeds, needed, inner)
  } finally {
    session.releaseNow()
  }
}

function read(ahead: Ahead = []): void {
  for (const { file, bytes } of ahead) file.readAhead(bytes)
}

/**
 * Runs a block into the tensors that its last run left for later blocks. New memory for every value between blocks would be taken from
 * the system and given back on each frame.
 */
function runInto(
  loaded: Loaded,
  session: Session,
  feeds: Tensors,
  needed: readonly string[],
  inner: readonly string[],
): Tensors {
  const shapes = Object.values(feeds)
    .map(({ dims }) => dims.join('x'))
    .join(' ')
  if (loaded.kept.shapes !== shapes) loaded.kept = { shapes, tensors: {} }
  const { kept } = loaded
  const into: Record<string, Tensor> = {}
  for (const name of inner) if (kept.tensors[name]) into[name] = kept.tensors[name]
  let outputs: Tensors
  try {
    outputs = session.runNow(feeds, needed, into)
  } catch (error) {
    if (Object.keys(into).length === 0) throw error
    // Shapes that depend on values and not on shapes: there is nothing to keep.
    loaded.kept = { shapes, tensors: {} }
    return session.runNow(feeds, needed)
  }
  for (const name of inner) {
    const output = outputs[name]!
    if (output.type !== 'string') kept.tensors[name] = output
  }
  return outputs
}

interface Wish {
  readonly call: number
  readonly deadline?: number | undefined
  readonly cancellable?: boolean | undefined
}

function stopIfUnwanted({ call, deadline, cancellable }: Wish, now: number): void {
  // A chain runs without a turn of the event loop, so what came meanwhile is looked for here.
  if (cancellable)
    for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port)) receive(next.message)
  if (cancelled.has(call)) throw new BlockscaleError('CANCELLED', 'the request was given up')
  if (deadline !== undefined && now > deadline) {
    throw new BlockscaleError(
      'DEADLINE_EXCEEDED',
      `the deadline passed ${(now - deadline).toFixed(1)} ms before the network was done`,
    )
  }
}

/** Runs a chain once on zeros: that it runs at all, gives what its border promises, and no NaN. */
function check({ call, chain, inputs, outputs }: EngineCall & { kind: 'check' }) {
  const shapes: Record<string, readonly number[]> = {}
  const feeds: Record<string, Tensor> = {}
  for (const { name, type, dims } of inputs) {
    const sizes = dims.map((size) => size ?? 1)
    const count = elementCount(sizes)
    shapes[name] = sizes
    feeds[name] = {
      type,
      dims: sizes,
      data: type === 'string' ? Array(count).fill('') : allocate(type, count),
    } as Tensor
  }
  const names = outputs.map(({ name }) => name)
  const { outputs: given } = run({ call, chain, feeds, outputs: names }, (name, { dims }) => {
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

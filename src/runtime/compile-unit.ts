import { randomBytes } from 'node:crypto'
import { readFile, rename, rm } from 'node:fs/promises'
import { seededRandom } from '../base/index.ts'
import {
  choosePacking,
  openCompiled,
  openSession,
  type PortFact,
  quickest,
  type Session,
  type SessionOptions,
  type Tensors,
} from '../engine/index.ts'
import { type Model, readModel, writeModel } from '../onnx/index.ts'
import { allocate, elementCount, type NumericType, type Tensor } from '../tensor/index.ts'
import { type BlockedBorders, withoutProbes, withProbes, withReorders } from './blocked-layout.ts'

type Level = NonNullable<SessionOptions['optimization']>

type Form = 'all' | 'blocked' | 'extended'

/** 'all' is nearly always right: on a busy machine a smaller difference is noise */
const WORTH_IT = 0.9

/**
 * Compiles a block for this machine in every way that could be best, measures them, and leaves the fastest in `to`.
 *
 * 'all' computes in ONNX Runtime's blocked layout inside, 'blocked' also at the borders given; where borders are plain, 'extended', which
 * computes in the plain layout, is faster for some odd shapes. Weights are copied into another order only where that is quicker.
 *
 * @param inputs shapes on which to measure; where a size is not known, nothing is measured and the first way is taken
 */
export async function compileUnit(
  bytes: Uint8Array,
  to: string,
  borders: BlockedBorders,
  inputs: readonly PortFact[],
): Promise<Form> {
  const isBlocked = borders.inputs.size + borders.outputs.size > 0
  const scratch = `${to}.${randomBytes(4).toString('hex')}.tmp`
  const paths: string[] = []
  const place = (form: string) => {
    const path = `${scratch}.${form}.ort`
    paths.push(path)
    return path
  }
  try {
    const ways: { form: Form; path: string; session: Session }[] = []
    const add = async (form: Form, make: (path: string) => Promise<void>) => {
      const path = place(form)
      await make(path)
      ways.push({ form, path, session: await openCompiled(path) })
    }
    if (isBlocked) {
      // Where a border cannot be blocked through and through, a reordering stands at it.
      await add('blocked', (path) => blocked(bytes, path, borders, scratch)).catch(() =>
        add('all', (path) => reordered(bytes, path, borders, scratch)),
      )
    } else {
      await add('all', (path) => optimised(bytes, path, 'all'))
      await add('extended', (path) => optimised(bytes, path, 'extended')).catch(() => {})
    }
    const feeds = feedsOf(inputs)
    const sessions = ways.map(({ session }) => session)
    const times = feeds && sessions.length > 1 ? quickest(sessions, feeds) : undefined
    for (const session of sessions) await session.release()
    const best = times?.[1] !== undefined && times[1] < WORTH_IT * times[0]! ? ways[1]! : ways[0]!
    if (feeds) await choosePacking(best.path, feeds)
    await rename(best.path, to)
    return best.form
  } finally {
    for (const path of paths) await rm(path, { force: true })
  }
}

/** Compiles a whole model for this machine. */
export async function compileWhole(bytes: Uint8Array, to: string, inputs: readonly PortFact[]): Promise<void> {
  await optimised(bytes, to, 'all')
  const feeds = feedsOf(inputs)
  if (feeds) await choosePacking(to, feeds)
}

async function blocked(bytes: Uint8Array, to: string, borders: BlockedBorders, scratch: string): Promise<void> {
  const graph = await optimisedGraph(writeModel(withProbes(readModel(bytes), borders)), scratch)
  await save(withoutProbes(graph, borders), to)
}

async function reordered(bytes: Uint8Array, to: string, borders: BlockedBorders, scratch: string): Promise<void> {
  await save(withReorders(await optimisedGraph(bytes, scratch), borders), to)
}

async function optimised(bytes: Uint8Array, to: string, level: Level): Promise<void> {
  await (await openSession(bytes, { saveOptimizedTo: to, optimization: level })).release()
}

/** The optimised graph, to be changed by hand. */
async function optimisedGraph(bytes: Uint8Array, scratch: string): Promise<Model> {
  const path = `${scratch}.onnx`
  try {
    await optimised(bytes, path, 'all')
    return readModel(await readFile(path))
  } finally {
    await rm(path, { force: true })
  }
}

async function save(model: Model, to: string): Promise<void> {
  const session = await openSession(writeModel(model), { saveOptimizedTo: to, optimization: 'disabled' })
  await session.release()
}

/** Noise of the given shapes; nothing where one is not known. */
export function feedsOf(ports: readonly PortFact[]): Tensors | undefined {
  const random = seededRandom(1)
  const feeds: Record<string, Tensor> = {}
  for (const { name, type, dims } of ports) {
    if (type === 'string' || dims.some((size) => size === null)) return undefined
    const sizes = dims as readonly number[]
    const data = allocate(type as NumericType, elementCount(sizes))
    if (type === 'float32') for (let i = 0; i < data.length; i++) data[i] = random() * 2 - 1
    feeds[name] = { type, dims: sizes, data } as Tensor
  }
  return feeds
}

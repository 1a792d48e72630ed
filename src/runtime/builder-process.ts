import { readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { asBlockscaleError, BlockscaleError, type ErrorCode, type ModelId } from '../base/index.ts'
import { openCompiled, openSession, type PortFact, type Session, type Tensors } from '../engine/index.ts'
import { compose, readModel, writeModel } from '../onnx/index.ts'
import type { Tensor } from '../tensor/index.ts'
import { type BorderValue, type Manifest, openZoo, type Zoo, type ZooFile } from '../zoo/index.ts'
import type { BlockedBorders } from './blocked-layout.ts'
import { compileUnit, compileWhole, feedsOf } from './compile-unit.ts'
import { type Layout, unitFile, writeLayout } from './layout.ts'
import { measureLayout } from './measure-layout.ts'

export interface CompileJob {
  readonly kind: 'compile'
  readonly zoo: string
  readonly device: string
  readonly model: ModelId
  readonly file: ZooFile
  /** what the result is kept as */
  readonly as: ZooFile
  readonly borders: BlockedBorders
  /** shapes on which the ways to compile it are compared */
  readonly ports: readonly PortFact[]
  /** bytes of compiled files that are kept; those unused for longest go first */
  readonly keepBytes: number
}

export interface LayoutJob {
  readonly kind: 'layout'
  readonly zoo: string
  readonly device: string
  readonly model: ModelId
  readonly manifest: Manifest
  /** border values that could be blocked */
  readonly values: Layout
  /** the originals, with these values blocked */
  readonly blocks: readonly {
    readonly file: ZooFile
    readonly borders: BlockedBorders
    readonly ports: readonly PortFact[]
  }[]
}

export interface FuseJob {
  readonly kind: 'fuse'
  readonly zoo: string
  readonly device: string
  readonly model: ModelId
  /** what the result is kept as: its `sha256` is the hash of the choice */
  readonly as: ZooFile
  readonly blocks: readonly ZooFile[]
  readonly inputs: readonly BorderValue[]
  readonly outputs: readonly BorderValue[]
  /** shapes on which the fused graph is compared with the chain */
  readonly ports: readonly PortFact[]
  /** bytes of fused graphs that are kept; those unused for longest go first */
  readonly keepBytes: number
}

export type BuilderJob = CompileJob | FuseJob | LayoutJob
export type BuilderRequest = BuilderJob & { readonly id: number }
export interface BuilderReply {
  readonly id: number
  readonly error?: { readonly code: ErrorCode; readonly message: string; readonly hint: string }
}

/**
 * The process that compiles. It only writes files; engines map them.
 *
 * A process and not a thread: what compiling takes is given back to the system when it ends, it runs at low priority, and a
 * model that crashes the compiler takes nothing else with it.
 */
let tail: Promise<void> = Promise.resolve()
process.on('message', (request: BuilderRequest) => {
  tail = tail.then(async () => {
    const reply = await handle(request)
    // The parent may have gone meanwhile; then nobody waits for the answer.
    if (process.connected) process.send?.(reply)
  })
})
process.on('disconnect', () => process.exit(0))

async function handle(request: BuilderRequest): Promise<BuilderReply> {
  try {
    const zoo = openZoo(request.zoo)
    if (request.kind === 'compile') await compileBlock(zoo, request)
    else if (request.kind === 'layout') await chooseBorders(zoo, request)
    else await fuse(zoo, request)
    return { id: request.id }
  } catch (thrown) {
    const { code, message, hint } = asBlockscaleError(thrown)
    return { id: request.id, error: { code, message, hint } }
  }
}

async function compileBlock(
  zoo: Zoo,
  { device, model, file, as, borders, ports, keepBytes }: CompileJob,
): Promise<void> {
  await trim(zoo.deviceFolder(device), keepBytes)
  await zoo.compile(device, as, async (to) => {
    await compileUnit(await zoo.load(model, file), to, borders, ports)
  })
}

/** Runs the original blocks with plain and with blocked borders, and writes down which borders are better blocked. */
async function chooseBorders(zoo: Zoo, { device, model, manifest, values, blocks }: LayoutJob): Promise<void> {
  const layout = await measureLayout(values, blocks, ({ file, ports }, borders) =>
    zoo.compile(device, unitFile(file, borders), async (to) => {
      await compileUnit(await zoo.load(model, file), to, borders, ports)
    }),
  )
  await writeLayout(zoo.deviceFolder(device), manifest, layout)
}

async function fuse(zoo: Zoo, job: FuseJob): Promise<void> {
  await trim(zoo.deviceFolder(job.device), job.keepBytes)
  await zoo.compile(job.device, job.as, async (to) => {
    const files = await Promise.all(job.blocks.map((file) => zoo.load(job.model, file)))
    const whole = compose(files.map(readModel), { inputs: job.inputs, outputs: job.outputs, name: job.model })
    await compileWhole(writeModel(whole), to, knownPorts(job.ports))
    const fused = await openCompiled(to)
    const chain: Session[] = []
    try {
      for (const bytes of files) chain.push(await openSession(bytes))
      await compare(fused, chain, job)
    } finally {
      for (const session of [fused, ...chain]) await session.release()
    }
  })
}

/** Greatest relative difference between the two gears: 8-bit values may round to a neighbour where operators were fused. */
const TOLERANCE = 0.05

/** @throws BlockscaleError GRAPH_INVALID when the fused graph answers otherwise than its blocks one after another */
async function compare(fused: Session, chain: readonly Session[], { model, ports, outputs }: FuseJob): Promise<void> {
  let values: Tensors = feedsOf(knownPorts(ports))!
  const whole = await fused.run(pick(values, fused.inputs))
  for (const session of chain) values = { ...values, ...(await session.run(pick(values, session.inputs))) }
  for (const { name } of outputs) {
    const difference = relativeDifference(values[name]!, whole[name]!)
    if (!(difference <= TOLERANCE)) {
      throw new BlockscaleError(
        'GRAPH_INVALID',
        `the fused form of ${model} differs by ${difference} from its blocks in ${name}`,
      )
    }
  }
}

const knownPorts = (ports: readonly PortFact[]): PortFact[] =>
  ports.map((port) => ({ ...port, dims: port.dims.map((size) => size ?? 1) }))

const pick = (values: Readonly<Record<string, Tensor>>, names: readonly string[]): Record<string, Tensor> =>
  Object.fromEntries(names.map((name) => [name, values[name]!]))

/** ‖a − b‖ / ‖a‖ */
function relativeDifference(a: Tensor, b: Tensor): number {
  let difference = 0
  let norm = 0
  for (let i = 0; i < a.data.length; i++) {
    const [x, y] = [Number(a.data[i]), Number(b.data[i])]
    difference += (x - y) ** 2
    norm += x * x
  }
  return difference === 0 ? 0 : Math.sqrt(difference / Math.max(norm, 1e-12))
}

/** Removes what was unused for longest until the folder is within its limit. The times of files tell when they were last loaded. */
async function trim(folder: string, keepBytes: number): Promise<void> {
  const names = (await readdir(folder).catch(() => [])).filter(
    (name) => name.endsWith('.ort') && !name.includes('.tmp'),
  )
  const files = await Promise.all(
    names.map(async (name) => {
      const { size, mtimeMs } = await stat(join(folder, name)).catch(() => ({ size: 0, mtimeMs: 0 }))
      return { path: join(folder, name), size, mtimeMs }
    }),
  )
  let bytes = files.reduce((sum, { size }) => sum + size, 0)
  for (const { path, size } of files.sort((a, b) => a.mtimeMs - b.mtimeMs)) {
    if (bytes <= keepBytes) return
    // An engine that has it mapped keeps it: the file goes when the last one lets go.
    await rm(path, { force: true })
    await rm(`${path}.sum`, { force: true })
    bytes -= size
  }
}

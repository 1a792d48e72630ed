import { stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { BlockscaleError, ORIGINAL, sha256 } from '../base/index.ts'
import type { PortFact } from '../engine/index.ts'
import {
  type BorderValue,
  type Choices,
  type Manifest,
  type ManifestBlock,
  type Polish,
  readPolish,
  type Zoo,
  type ZooFile,
} from '../zoo/index.ts'
import type { BlockedBorders } from './blocked-layout.ts'
import type { Builder } from './builder.ts'
import { DescendantDamaged } from './damage.ts'
import { bordersOf, eligibleValues, type Layout, PLAIN, readLayout, unitFile } from './layout.ts'
import { choicesOf, type InWindow, type Unit } from './unit.ts'

type Size = readonly [number, number]

export interface UnitFilesOptions {
  readonly zoo: Zoo
  /** makes what a plan waits for */
  readonly builder: Builder
  /** makes what may be wanted later: fused graphs, and descendants that no plan has chosen yet */
  readonly background: Builder
  /** key of the folder for compiled files */
  readonly device: string
  /** bytes of compiled files that are kept on disk, of fused graphs and of blocks each; 1 GB unless given */
  readonly cacheBytes?: number | undefined
}

/** A descendant that a plan chose, with what the plan reckons that it takes. */
export interface ChosenDescendant {
  readonly block: string
  readonly descendant: string
  readonly memoryBytes: number
  readonly window?: InWindow | undefined
}

/**
 * Finds the compiled files of descendants and of fused choices, and has them made where they are missing or damaged.
 *
 * Every file is compared with its checksum before it is loaded, once while it stays as it was.
 */
export class UnitFiles {
  readonly #options: UnitFilesOptions
  readonly #known = new Map<string, { path: string; mark: string; bytes: number }>()
  readonly #underWay = new Map<string, Promise<{ path: string; bytes: number }>>()
  readonly #layouts = new Map<string, Promise<Layout>>()

  constructor(options: UnitFilesOptions) {
    this.#options = options
  }

  /** @throws DescendantDamaged; BlockscaleError PLAN_INVALID, MODEL_UNSUPPORTED */
  async chain(manifest: Manifest, chosen: readonly ChosenDescendant[], size: Size): Promise<Unit[]> {
    const layout = await this.#layout(manifest)
    return Promise.all(
      manifest.blocks.map(async (block) => {
        const choice = chosen.find((each) => each.block === block.id)
        const descendant = descendantOf(manifest, block, choice?.descendant)
        const borders = bordersOf(block, layout)
        const whole = () =>
          this.#compiled(manifest, block, descendant.file, borders).catch((error: BlockscaleError) => {
            if (error.code !== 'ZOO_DAMAGED') throw error
            const { id, file } = descendant
            throw new DescendantDamaged({ model: manifest.model, block: block.id, descendant: id, file }, error)
          })
        const { sha256: key } = unitFile(descendant.file, borders)
        // What is there is compared with its checksum when it is loaded: not before others that come first, or when nobody loads it.
        const seen = this.#known.get(key) ?? (await this.#present(this.#options.device, key))
        const { path, bytes } = seen ?? (await whole())
        const base = isBaseSize(manifest, size)
        return {
          key: choice?.window ? `${key} ${heldAs(choice)}` : key,
          block: block.id,
          descendant: descendant.id,
          kind: descendant.kind,
          path,
          whole,
          fileBytes: bytes,
          memoryBytes: choice?.memoryBytes ?? bytes,
          ...(choice?.window ? { window: choice.window } : {}),
          inputs: block.inputs.map((value) => portOf(value, base)),
          outputs: block.outputs.map((value) => portOf(value, base)),
        }
      }),
    )
  }

  /** Whether all that a plan chose of a model seems to be compiled, so that loading it waits for nothing but the disk. */
  async isCompiled(manifest: Manifest, chosen: readonly ChosenDescendant[]): Promise<boolean> {
    const layout = await this.#layout(manifest)
    const found = await Promise.all(
      manifest.blocks.map((block) => {
        const { file } = descendantOf(manifest, block, chosen.find((each) => each.block === block.id)?.descendant)
        return this.#present(this.#options.device, unitFile(file, bordersOf(block, layout)).sha256)
      }),
    )
    return found.every((each) => each !== undefined)
  }

  /** The fused form of a choice, where it was made before; with the weights that were made for it, where there are any. */
  async fused(manifest: Manifest, chain: readonly Unit[], size: Size): Promise<Unit | undefined> {
    const polish = await readPolish(this.#options.zoo, manifest, choicesOf(chain) as Choices, size)
    for (const each of polish ? [polish, undefined] : [undefined]) {
      const found = await this.#present(this.#fusedDevice, fusedFile(manifest, chain, each).sha256)
      if (found) return this.#fusedUnit(manifest, chain, size, each, found)
    }
    return undefined
  }

  /** Makes the fused form of a choice, with the weights that were made for it, where there are any. @throws BlockscaleError GRAPH_INVALID when it would answer otherwise than the chain */
  async fuse(manifest: Manifest, chain: readonly Unit[], size: Size): Promise<Unit> {
    const polish = await readPolish(this.#options.zoo, manifest, choicesOf(chain) as Choices, size)
    const found = await this.#fusedWhole(manifest, chain, size, polish)
    return this.#fusedUnit(manifest, chain, size, polish, found)
  }

  /**
   * Compiles what is not compiled yet, one after another, so that later swaps find it.
   *
   * @returns whether nothing is left to be compiled
   */
  async compileAll(manifest: Manifest, goOn: () => boolean): Promise<boolean> {
    const layout = await this.#layout(manifest)
    for (const block of manifest.blocks) {
      for (const { file } of block.descendants) {
        if (!goOn()) return false
        await this.#compiled(manifest, block, file, bordersOf(block, layout), this.#options.background)
      }
    }
    return true
  }

  /** Which borders are blocked on this machine: measured once, on the original blocks, when the model is first loaded here. */
  #layout(manifest: Manifest): Promise<Layout> {
    const values = eligibleValues(manifest)
    if (values.size === 0) return Promise.resolve(PLAIN)
    let layout = this.#layouts.get(manifest.source)
    if (!layout) {
      layout = this.#chooseLayout(manifest, values)
      this.#layouts.set(manifest.source, layout)
      layout.catch(() => this.#layouts.delete(manifest.source))
    }
    return layout
  }

  async #chooseLayout(manifest: Manifest, values: Layout): Promise<Layout> {
    const { zoo, device, builder } = this.#options
    const folder = zoo.deviceFolder(device)
    const known = await readLayout(folder, manifest)
    if (known) return known
    const choosing = builder.run({
      kind: 'layout',
      zoo: zoo.dir,
      device,
      model: manifest.model,
      values,
      blocks: manifest.blocks.map((block) => ({
        file: descendantOf(manifest, block, ORIGINAL).file,
        borders: bordersOf(block, values),
        ports: block.inputs.map((value) => portOf(value, true)),
      })),
      manifest,
    })
    // Where it cannot be measured (an original that no plan wants may be damaged), borders stay plain, and it is tried again at the next start.
    await choosing.catch(() => {})
    return (await readLayout(folder, manifest)) ?? PLAIN
  }

  get #keepBytes(): number {
    return this.#options.cacheBytes ?? 1e9
  }

  get #fusedDevice(): string {
    return `${this.#options.device}.fused`
  }

  #fusedUnit(
    manifest: Manifest,
    chain: readonly Unit[],
    size: Size,
    polish: Polish | undefined,
    { path, bytes }: { path: string; bytes: number },
  ): Unit {
    return {
      polished: polish !== undefined,
      key: fusedFile(manifest, chain, polish).sha256,
      block: '',
      descendant: '',
      kind: 'fused',
      path,
      whole: () => this.#fusedWhole(manifest, chain, size, polish),
      fileBytes: bytes,
      // What the blocks take together is more than the whole takes: it has one arena, and values that never leave it.
      memoryBytes: chain.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0),
      inputs: modelInputs(manifest, size),
      outputs: modelOutputs(manifest, size),
    }
  }

  #fusedWhole(
    manifest: Manifest,
    chain: readonly Unit[],
    size: Size,
    polish: Polish | undefined,
  ): Promise<{ path: string; bytes: number }> {
    const { zoo, background } = this.#options
    const file = fusedFile(manifest, chain, polish)
    return this.#once(`fused ${file.sha256}`, async () => {
      const found = await this.#find(this.#fusedDevice, file)
      if (found) return found
      await background.run({
        kind: 'fuse',
        zoo: zoo.dir,
        device: this.#fusedDevice,
        model: manifest.model,
        as: file,
        blocks: fusedFiles(manifest, chain, polish),
        inputs: manifest.inputs,
        outputs: manifest.outputs,
        ports: modelInputs(manifest, size),
        keepBytes: this.#keepBytes,
      })
      return this.#find(this.#fusedDevice, file)
    })
  }

  #compiled(
    manifest: Manifest,
    block: ManifestBlock,
    file: ZooFile,
    borders: BlockedBorders,
    builder = this.#options.builder,
  ): Promise<{ path: string; bytes: number }> {
    const { zoo, device } = this.#options
    const as = unitFile(file, borders)
    // Who waits for a file does not wait for the unhurried process that makes it already: both may make it, and one result is kept.
    const hurry = builder === this.#options.builder ? '' : ' in the background'
    return this.#once(`${as.sha256}${hurry}`, async () => {
      const found = await this.#find(device, as)
      if (found) return found
      const ports = block.inputs.map((value) => portOf(value, true))
      const { model } = manifest
      await builder.run({
        kind: 'compile',
        zoo: zoo.dir,
        device,
        model,
        file,
        as,
        borders,
        ports,
        keepBytes: this.#keepBytes,
      })
      return this.#find(device, as)
    })
  }

  async #present(device: string, key: string): Promise<{ path: string; bytes: number } | undefined> {
    const path = join(this.#options.zoo.deviceFolder(device), `${key}.ort`)
    return stat(path).then(
      ({ size }) => ({ path, bytes: size }),
      () => undefined,
    )
  }

  async #find(device: string, file: ZooFile): Promise<{ path: string; bytes: number } | undefined> {
    const known = this.#known.get(file.sha256)
    if (known && (await markOf(known.path)) === known.mark) return known
    // Its time says when it was last wanted, so that what is unused for longest can go.
    const now = new Date()
    await utimes(`${this.#options.zoo.deviceFolder(device)}/${file.sha256}.ort`, now, now).catch(() => {})
    const path = await this.#options.zoo.compiled(device, file)
    if (!path) return undefined
    const found = { path, mark: await markOf(path), bytes: (await stat(path)).size }
    this.#known.set(file.sha256, found)
    return found
  }

  async #once(
    key: string,
    find: () => Promise<{ path: string; bytes: number } | undefined>,
  ): Promise<{ path: string; bytes: number }> {
    let work = this.#underWay.get(key)
    if (!work) {
      work = find().then((found) => {
        if (found) return found
        throw new BlockscaleError('ZOO_DAMAGED', `what was compiled of ${key.slice(0, 18)} cannot be read back`)
      })
      this.#underWay.set(key, work)
      const done = () => this.#underWay.delete(key)
      work.then(done, done)
    }
    return work
  }
}

const markOf = async (path: string): Promise<string> =>
  stat(path).then(
    ({ ino, size, mtimeMs }) => `${ino}:${size}:${mtimeMs}`,
    () => 'missing',
  )

function descendantOf(manifest: Manifest, block: ManifestBlock, id: string | undefined) {
  const found = block.descendants.find((each) => each.id === id)
  if (found) return found
  const offered = block.descendants.map((each) => each.id).join(', ')
  const what = id === undefined ? 'no descendant' : `the descendant "${id}"`
  throw new BlockscaleError(
    'PLAN_INVALID',
    `the plan names ${what} for block ${block.id} of ${manifest.model}; there are ${offered}`,
  )
}

/** The file of each block: what was made for exactly this choice, else the descendant as it is. */
function fusedFiles(manifest: Manifest, chain: readonly Unit[], polish: Polish | undefined): ZooFile[] {
  return manifest.blocks.map((block, i) => {
    const better = polish?.blocks.find((each) => each.block === block.id)?.file
    return better ?? descendantOf(manifest, block, chain[i]!.descendant).file
  })
}

/** What a fused choice is kept as: its hash covers the files, their order and how they are joined. */
function fusedFile(manifest: Manifest, chain: readonly Unit[], polish: Polish | undefined): ZooFile {
  const files = fusedFiles(manifest, chain, polish)
    .map(({ sha256: hash }) => hash)
    .join('\n')
  const ends = [...manifest.inputs, ...manifest.outputs].map(({ name }) => name).join('\n')
  return { path: '', bytes: 0, sha256: sha256(`fused 1\n${files}\n${ends}`) }
}

/** The same file, held in another way, is another unit. */
const heldAs = ({ memoryBytes, window }: ChosenDescendant): string =>
  `${window?.isPassing ? 'streamed' : 'loaded'} ${Math.round(memoryBytes)} ${window?.bytes}`

const isBaseSize = ({ sizes }: Manifest, size: Size): boolean => (sizes[0] ?? size).join() === size.join()

/** A border value at an input size: what the manifest says holds for the model's own size. A free batch, `N`, is 1. */
function portOf({ name, fact }: BorderValue, base: boolean): PortFact {
  const known = (dim: number | string | null, i: number) => {
    if (typeof dim === 'number') return base || (i === 0 && dim === 1) ? dim : null
    return dim === 'N' ? 1 : null
  }
  return { name, type: fact.type, dims: (fact.dims ?? []).map(known) }
}

/** The model's inputs at an input size `[height, width]`, which every input that takes a picture of free size follows. */
export function modelInputs(manifest: Manifest, size: Size): PortFact[] {
  const specs = [manifest.card.input].flat()
  return manifest.inputs.map(({ name, fact }) => {
    const spec = specs.find((each) => each.name === name)
    const at = spec && specs.length > 1 ? spec.size : size
    const [height, width] = spec?.layout === 'nhwc' ? [1, 2] : [2, 3]
    const dims = (fact.dims ?? []).map((dim, i) => {
      if (i === height) return at[0]
      if (i === width) return at[1]
      return typeof dim === 'number' ? dim : 1
    })
    return { name, type: fact.type, dims }
  })
}

export const modelOutputs = (manifest: Manifest, size: Size): PortFact[] =>
  manifest.outputs.map((value) => portOf(value, isBaseSize(manifest, size)))

import type { PortFact } from '../engine/index.ts'

/** A compiled file that an engine can map, and what that costs: a descendant, or a whole choice fused into one graph. */
export interface Unit {
  /** sha256 of the descendant's file, or the hash of the fused choice: equal keys are equal graphs, held in the same way */
  readonly key: string
  /** block id; '' for a fused whole */
  readonly block: string
  readonly descendant: string
  readonly kind: string
  /** the `.ort` file to map */
  readonly path: string
  /** Compares that file with its checksum, and has it made again where it differs; absent where that was done. @throws DescendantDamaged */
  readonly whole?: (() => Promise<unknown>) | undefined
  /** bytes of that file */
  readonly fileBytes: number
  /** measured need of memory while it is loaded, mapped and anonymous; with its share of the model's window, where there is one */
  readonly memoryBytes: number
  /** where the blocks of its model share a window of memory */
  readonly window?: InWindow | undefined
  /** its border, at the input size in force; sizes inside a model are not known for every input size */
  readonly inputs: readonly PortFact[]
  readonly outputs: readonly PortFact[]
  /** whether it holds weights that were made for exactly this choice */
  readonly polished?: boolean
}

export interface InWindow {
  /** what it takes of the window while it runs */
  readonly bytes: number
  /** whether it is mapped for each run in place of staying loaded */
  readonly isPassing: boolean
}

/** What the plan wants of one model, with every file ready to be mapped. */
export interface Target {
  readonly model: string
  /** id of the plan */
  readonly plan: string
  readonly inputSize: readonly [number, number]
  /** the engine that is to run it */
  readonly core: number
  readonly predicted: { readonly quality: number; readonly latencyMs: number; readonly memoryBytes: number }
  /** of the whole model, at this input size */
  readonly inputs: readonly PortFact[]
  readonly outputs: readonly PortFact[]
  /** one for each block, in the order in which they run */
  readonly chain: readonly Unit[]
  /** what the blocks may take while they run, together with what is read ahead; nothing where each has memory of its own */
  readonly windowBytes?: number | undefined
  /** the same choice as one graph, where it is compiled already */
  readonly fused?: Unit | undefined
}

export const choicesOf = (chain: readonly Unit[]): Readonly<Record<string, string>> =>
  Object.fromEntries(chain.map(({ block, descendant }) => [block, descendant]))

/** Of the compiled files. */
export const fileBytesOf = (units: readonly Unit[]): number => units.reduce((sum, { fileBytes }) => sum + fileBytes, 0)

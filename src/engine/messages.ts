import type { ErrorCode } from '../base/index.ts'
import type { TensorType } from '../tensor/index.ts'
import type { Tensors } from './session.ts'

/** A value at the border of a session; `null` where its size is not known. */
export interface PortFact {
  readonly name: string
  readonly type: TensorType
  readonly dims: readonly (number | null)[]
}

/**
 * How a file is held that shares a window of memory with the others of its chain: between two runs it keeps nothing of what it takes
 * while it runs.
 */
export interface Windowed {
  /** what it takes while it runs, beside what stays loaded */
  readonly memoryBytes: number
  /** where the file does not stay loaded but is mapped anew for each run: what cannot be asked of it while it is not */
  readonly passing?: { readonly inputs: readonly string[]; readonly outputs: readonly string[] } | undefined
}

/** What an engine is asked. Calls are handled one after another; `cancel` is looked at between two blocks. */
export type EngineCall =
  | {
      readonly kind: 'load'
      readonly call: number
      readonly key: string
      readonly path: string
      /** nothing for a session that keeps its memory to itself */
      readonly windowed?: Windowed | undefined
    }
  | { readonly kind: 'release'; readonly call: number; readonly key: string }
  | {
      readonly kind: 'check'
      readonly call: number
      readonly chain: readonly string[]
      readonly inputs: readonly PortFact[]
      readonly outputs: readonly PortFact[]
    }
  | {
      readonly kind: 'run'
      readonly call: number
      /** sessions in the order in which they run; each takes its inputs by name from what came before */
      readonly chain: readonly string[]
      readonly feeds: Tensors
      readonly outputs: readonly string[]
      /** time of `sharedNow` after which no further block is started */
      readonly deadline?: number | undefined
      /** what the sessions may take while they run, together with what is read ahead of them; nothing is read ahead unless given */
      readonly windowBytes?: number | undefined
      /** whether a `cancel` may come, so that it is worth looking for between two blocks */
      readonly cancellable?: boolean | undefined
    }
  | { readonly kind: 'cancel'; readonly call: number }
  | { readonly kind: 'stop' }

export type EngineAnswer =
  | { readonly kind: 'loaded'; readonly call: number; readonly ms: number }
  | { readonly kind: 'released'; readonly call: number }
  | {
      readonly kind: 'checked'
      readonly call: number
      readonly ms: number
      /** of every value that went in or came out of a session */
      readonly shapes: Readonly<Record<string, readonly number[]>>
    }
  | {
      readonly kind: 'outputs'
      readonly call: number
      readonly outputs: Tensors
      /** time of `sharedNow` at which the first block started */
      readonly startedAt: number
      readonly ms: number
      /** of each session of the chain */
      readonly stepMs: readonly number[]
    }
  | {
      readonly kind: 'failed'
      readonly call: number
      readonly code: ErrorCode
      readonly message: string
      readonly hint: string
    }

/** Milliseconds on a clock that all threads of the process share and that never goes back. */
export const sharedNow = (): number => performance.timeOrigin + performance.now()

/** The buffers of tensors that own their whole buffer: these are moved between threads, others are copied. */
export function transferable(tensors: Tensors): ArrayBuffer[] {
  const buffers = new Set<ArrayBuffer>()
  for (const { data } of Object.values(tensors)) {
    if (!ArrayBuffer.isView(data)) continue
    const { buffer, byteLength } = data as Uint8Array
    if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffers.add(buffer)
  }
  return [...buffers]
}

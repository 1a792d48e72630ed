import type * as ort from 'onnxruntime-node'
import { BlockscaleError } from '../base/index.ts'
import type { Tensor, TensorType } from '../tensor/index.ts'
import { loadLibrary, type NativeSession, newNativeSession } from './native.ts'
import { inCall } from './parking.ts'

export type Tensors = Readonly<Record<string, Tensor>>

export interface SessionOptions {
  /** intra-op threads; 1 unless given, because thread pools are per session and spin */
  readonly threads?: number
  /** 'all' is 1.3–1.9x faster than 'extended', also for cut graphs; 'disabled' keeps every node for recording */
  readonly optimization?: 'disabled' | 'basic' | 'extended' | 'all'
  /** where ONNX Runtime writes the optimised graph; `.ort` for the memory-mappable format */
  readonly saveOptimizedTo?: string
  /** maps the weights of an `.ort` file into memory in place of copying them */
  readonly memoryMapped?: boolean
  /** whether weights are copied into the order in which kernels read them; they are unless told otherwise */
  readonly prepacking?: boolean
  /**
   * Whether the memory of a run is kept for the next one; it is unless told otherwise. ONNX Runtime keeps up to twice of what it needed,
   * each session for itself. Where each run takes it anew and gives it back, the sessions of a thread share it, and runs are a little slower.
   */
  readonly keepsMemory?: boolean
}

/** A loaded graph. Runs block the calling thread, so services keep sessions in worker threads. */
export interface Session {
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  /**
   * @param into tensors of earlier runs that are written again in place of new ones; their shapes must be right
   * @throws BlockscaleError ENGINE_FAILED with ONNX Runtime's reason
   */
  run(feeds: Tensors, outputs?: readonly string[], into?: Tensors): Promise<Tensors>
  /**
   * The same at once, without a turn of the event loop: for chains, in threads that are asked to stop and never ended from outside.
   *
   * @returns tensors that can be fed to another session as they are; to be sent to another thread they have to be taken apart
   */
  runNow(feeds: Tensors, outputs?: readonly string[], into?: Tensors): Tensors
  release(): Promise<void>
  /** The same at once, in the threads that may call `runNow`. */
  releaseNow(): void
}

/**
 * Loads a model from bytes or, for `.ort` files always, from its path.
 *
 * @throws BlockscaleError MODEL_UNSUPPORTED with ONNX Runtime's reason
 */
export const openSession = (model: Uint8Array | string, options: SessionOptions = {}): Promise<Session> =>
  inCall(async () => {
    await turn()
    return openSessionNow(model, options)
  })

/** The same at once, in the threads that may call `runNow`. @throws BlockscaleError MODEL_UNSUPPORTED */
export function openSessionNow(model: Uint8Array | string, options: SessionOptions = {}): Session {
  const settings: ort.InferenceSession.SessionOptions = {
    executionProviders: ['cpu'],
    graphOptimizationLevel: options.optimization ?? 'all',
    intraOpNumThreads: options.threads ?? 1,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    logSeverityLevel: 4,
    // The pattern would be one piece of memory for all values of a run, also for those that never live at the same time.
    ...(options.keepsMemory === false ? { enableCpuMemArena: false, enableMemPattern: false } : {}),
    ...(options.saveOptimizedTo ? { optimizedModelFilePath: options.saveOptimizedTo } : {}),
    extra: {
      session: {
        ...((options.threads ?? 1) > 1 ? { intra_op: { allow_spinning: '0' } } : {}),
        ...(options.memoryMapped
          ? { use_memory_mapped_ort_model: '1', use_ort_model_bytes_for_initializers: '1', load_model_format: 'ORT' }
          : {}),
        ...(options.prepacking === false ? { disable_prepacking: '1' } : {}),
        ...(options.saveOptimizedTo?.endsWith('.ort') ? { save_model_format: 'ORT' } : {}),
      },
    },
  }
  const session = newNativeSession()
  try {
    load(session, model, settings)
  } catch (cause) {
    throw new BlockscaleError('MODEL_UNSUPPORTED', `ONNX Runtime refuses the model: ${reason(cause)}`, undefined, {
      cause,
    })
  }
  const outputNames = session.outputMetadata.map(({ name }) => name)
  const inputNames = session.inputMetadata.map(({ name }) => name)
  function runNow(feeds: Tensors, outputs: readonly string[] = outputNames, into: Tensors = {}): Tensors {
    const given: Record<string, ort.Tensor> = {}
    // What it does not know ONNX Runtime would pass over without a word, and what is missing crashes it.
    for (const name of inputNames) given[name] = toOrt(name, feeds[name])
    const fetches: Record<string, ort.Tensor | null> = {}
    for (const name of outputs) fetches[name] = into[name] ? toOrt(name, into[name]) : null
    try {
      return session.run(given, fetches, {}) as unknown as Tensors
    } catch (cause) {
      throw new BlockscaleError('ENGINE_FAILED', `the run failed: ${reason(cause)}`, undefined, { cause })
    }
  }
  return {
    inputs: inputNames,
    outputs: outputNames,
    runNow,
    run: (feeds, outputs, into) =>
      inCall(async () => {
        await turn()
        return Object.fromEntries(
          Object.entries(runNow(feeds, outputs, into)).map(([name, value]) => [name, fromOrt(value)]),
        )
      }),
    release: () => inCall(async () => session.dispose()),
    releaseNow: () => session.dispose(),
  }
}

/** The thread does what else waits for it before it is blocked. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

function load(session: NativeSession, model: Uint8Array | string, settings: ort.InferenceSession.SessionOptions): void {
  if (typeof model === 'string') session.loadModel(model, settings)
  else session.loadModel(model.buffer, model.byteOffset, model.byteLength, settings)
}

const reason = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause)).slice(0, 500)

function toOrt(name: string, value: Tensor | undefined): ort.Tensor {
  if (!value) throw new BlockscaleError('ENGINE_FAILED', `the run failed: input '${name}' is missing in 'feeds'.`)
  const { Tensor } = loadLibrary()
  if (value instanceof Tensor) return value
  return new Tensor(value.type as 'float32', value.data as Float32Array, value.dims as number[])
}

/** The plain tensor of one that the library made: only such can be sent to another thread. */
export const fromOrt = (value: Tensor): Tensor =>
  ({ type: value.type as TensorType, dims: value.dims, data: value.data }) as Tensor

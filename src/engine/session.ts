import * as ort from 'onnxruntime-node'
import { BlockscaleError } from '../base/index.ts'
import type { Tensor, TensorType } from '../tensor/index.ts'
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
  release(): Promise<void>
}

/**
 * Loads a model from bytes or, for `.ort` files always, from its path.
 *
 * @throws BlockscaleError MODEL_UNSUPPORTED with ONNX Runtime's reason
 */
export async function openSession(model: Uint8Array | string, options: SessionOptions = {}): Promise<Session> {
  const settings: ort.InferenceSession.SessionOptions = {
    executionProviders: ['cpu'],
    graphOptimizationLevel: options.optimization ?? 'all',
    intraOpNumThreads: options.threads ?? 1,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    logSeverityLevel: 4,
    ...(options.saveOptimizedTo ? { optimizedModelFilePath: options.saveOptimizedTo } : {}),
    extra: {
      session: {
        ...((options.threads ?? 1) > 1 ? { intra_op: { allow_spinning: '0' } } : {}),
        ...(options.memoryMapped
          ? { use_memory_mapped_ort_model: '1', use_ort_model_bytes_for_initializers: '1' }
          : {}),
        ...(options.saveOptimizedTo?.endsWith('.ort') ? { save_model_format: 'ORT' } : {}),
      },
    },
  }
  let session: ort.InferenceSession
  try {
    session = await inCall(() =>
      typeof model === 'string'
        ? ort.InferenceSession.create(model, settings)
        : ort.InferenceSession.create(model, settings),
    )
  } catch (cause) {
    throw new BlockscaleError('MODEL_UNSUPPORTED', `ONNX Runtime refuses the model: ${reason(cause)}`, undefined, {
      cause,
    })
  }
  return {
    inputs: session.inputNames,
    outputs: session.outputNames,
    async run(feeds, outputs, into) {
      const given: Record<string, ort.Tensor> = {}
      for (const [name, value] of Object.entries(feeds)) given[name] = toOrt(value)
      try {
        const results = await inCall(() => (outputs ? session.run(given, fetches(outputs, into)) : session.run(given)))
        return Object.fromEntries(Object.entries(results).map(([name, value]) => [name, fromOrt(value)]))
      } catch (cause) {
        throw new BlockscaleError('ENGINE_FAILED', `the run failed: ${reason(cause)}`, undefined, { cause })
      }
    },
    release: () => inCall(() => session.release()),
  }
}

export const runtimeVersion = (): string => ort.env.versions.node ?? ort.env.versions.common

const reason = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause)).slice(0, 500)

const fetches = (outputs: readonly string[], into: Tensors = {}): Record<string, ort.Tensor | null> =>
  Object.fromEntries(outputs.map((name) => [name, into[name] ? toOrt(into[name]) : null]))

const toOrt = (value: Tensor): ort.Tensor =>
  new ort.Tensor(value.type as 'float32', value.data as Float32Array, value.dims as number[])

const fromOrt = (value: ort.Tensor): Tensor =>
  ({ type: value.type as TensorType, dims: value.dims, data: value.data as Float32Array }) as Tensor

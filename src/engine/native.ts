import { createRequire } from 'node:module'
import type { InferenceSession, Tensor } from 'onnxruntime-node'

/**
 * ONNX Runtime's session below the promises of its public face.
 *
 * Both block the calling thread, but the public one also waits for a turn of the event loop before each run: with it a call costs three
 * times as much (28 µs against 11 µs for a graph of one node), which a chain of eight blocks pays eight times.
 */
export interface NativeSession {
  loadModel(path: string, options: InferenceSession.SessionOptions): void
  loadModel(buffer: ArrayBufferLike, offset: number, length: number, options: InferenceSession.SessionOptions): void
  readonly inputMetadata: readonly { readonly name: string }[]
  readonly outputMetadata: readonly { readonly name: string }[]
  /** @param fetches a tensor that is to be written, or null for a new one, by the names of the outputs */
  run(
    feeds: Readonly<Record<string, Tensor>>,
    fetches: Readonly<Record<string, Tensor | null>>,
    options: InferenceSession.RunOptions,
  ): Record<string, Tensor>
  dispose(): void
}

interface Binding {
  readonly binding: { readonly InferenceSession: new () => NativeSession }
  initOrt(): void
}

// The package has no `exports`, and its version is pinned: the files are there, and a test runs on them.
const require = createRequire(import.meta.url)
const version = (require('onnxruntime-node/dist/version') as { version: string }).version
let library: { readonly native: Binding; readonly Tensor: typeof Tensor } | undefined

/** Loads ONNX Runtime into this thread, which takes tens of milliseconds: only into threads that run graphs. */
export function loadLibrary(): NonNullable<typeof library> {
  if (!library) {
    library = {
      native: require('onnxruntime-node/dist/binding') as Binding,
      Tensor: (require('onnxruntime-node') as typeof import('onnxruntime-node')).Tensor,
    }
    library.native.initOrt()
  }
  return library
}

export const newNativeSession = (): NativeSession => new (loadLibrary().native.binding.InferenceSession)()

/** Known without loading it. */
export const runtimeVersion = (): string => version

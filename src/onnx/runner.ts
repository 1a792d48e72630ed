import type { Tensor } from '../tensor/index.ts'
import type { Model } from './graph.ts'

/**
 * Runs a model once and gives the named values. The engine provides it; this room knows no runtime.
 *
 * `outputs` may name any value of the graph.
 */
export type Runner = (
  model: Model,
  feeds: Readonly<Record<string, Tensor>>,
  outputs: readonly string[],
) => Promise<Readonly<Record<string, Tensor>>>

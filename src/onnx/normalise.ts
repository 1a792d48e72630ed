import { check } from './check.ts'
import type { Model } from './graph.ts'
import type { Normalised } from './normalised.ts'
import { sortNodes, withGraph } from './rewrite.ts'
import type { Runner } from './runner.ts'

export interface NormaliseOptions {
  /** input height and width for which a model of free size is to be recorded; the file's own unless given */
  readonly nominalSize?: readonly [number, number] | undefined
}

export async function normalise(model: Model, run: Runner, options: NormaliseOptions = {}): Promise<Normalised> {
  void run
  void options
  const sorted = check(withGraph(model, sortNodes(model.graph)))
  return { model: sorted, nominal: new Map(), freeBatch: false, freeSize: false, notes: [], quantised: false }
}

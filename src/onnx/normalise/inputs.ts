import { BlockscaleError } from '../../base/index.ts'
import { allocate, type Tensor, type TensorType } from '../../tensor/index.ts'
import type { Dim, Graph, Model } from '../graph.ts'
import { withGraph } from '../rewrite.ts'
import { sample } from './samples.ts'

/** One picture, or several, of a certain size: what a probe run feeds. */
export interface Situation {
  readonly batch: number
  readonly size: readonly [number, number] | undefined
}

/** An input of the graph: its shape at batch 1 and the nominal size, and which axes mean what. */
export interface InputShape {
  readonly name: string
  readonly type: TensorType
  readonly dims: readonly number[]
  /** the first axis may be a batch */
  readonly batch: boolean
  /** axes of height and width, where the input is the only picture */
  readonly spatial: readonly [number, number] | undefined
}

export interface Freedom {
  readonly batch: boolean
  readonly size: boolean
}

/** Height and width at which a model of free size is recorded when nobody says otherwise. */
const USUAL_SIZE = 224

/**
 * Reads the inputs: what is symbolic gets a number, what is a number may later turn out to be free.
 *
 * @throws BlockscaleError MODEL_UNSUPPORTED when an input is no tensor of known rank
 */
export function inputShapes(graph: Graph, nominalSize?: readonly [number, number]): readonly InputShape[] {
  const pictures = graph.inputs.filter(({ fact }) => fact?.dims?.length === 4)
  return graph.inputs.map(({ name, fact }): InputShape => {
    if (!fact?.dims) {
      throw new BlockscaleError('MODEL_UNSUPPORTED', `the input ${name} has no type and rank in the file`)
    }
    const spatial = fact.dims.length === 4 ? spatialAxes(fact.dims) : undefined
    const dims = fact.dims.map((dim, axis): number => {
      if (typeof dim === 'number') return dim
      if (axis === 0) return 1
      if (!spatial) return USUAL_SIZE
      if (axis === spatial[0]) return nominalSize?.[0] ?? USUAL_SIZE
      if (axis === spatial[1]) return nominalSize?.[1] ?? USUAL_SIZE
      return 3
    })
    return { name, type: fact.type, dims, batch: dims[0] === 1, spatial: pictures.length === 1 ? spatial : undefined }
  })
}

/** NCHW, unless the last axis alone looks like colours. */
function spatialAxes(dims: readonly Dim[]): readonly [number, number] {
  const colours = (dim: Dim | undefined) => typeof dim === 'number' && dim <= 4
  return colours(dims[3]) && !colours(dims[1]) ? [1, 2] : [2, 3]
}

/** The size for which the file was made, or the nominal one where the file leaves it open. */
export function sizeOf(inputs: readonly InputShape[]): readonly [number, number] | undefined {
  const picture = inputs.find(({ spatial }) => spatial)
  return picture?.spatial && [picture.dims[picture.spatial[0]]!, picture.dims[picture.spatial[1]]!]
}

/** The inputs' dims in a situation. */
export function dimsAt({ dims, batch, spatial }: InputShape, at: Situation): readonly number[] {
  return dims.map((dim, axis) => {
    if (axis === 0 && batch) return dim * at.batch
    if (at.size && axis === spatial?.[0]) return at.size[0]
    if (at.size && axis === spatial?.[1]) return at.size[1]
    return dim
  })
}

/** Feeds for a probe run; picture `i` of a batch is the same as the one of seed `seed + i` alone. */
export function feedsAt(inputs: readonly InputShape[], at: Situation, seed = 1): Record<string, Tensor> {
  return Object.fromEntries(
    inputs.map((input) => {
      const single = dimsAt(input, { ...at, batch: 1 })
      if (!input.batch || at.batch === 1) return [input.name, sample(input.type, single, seed)]
      const parts = Array.from({ length: at.batch }, (_, index) => sample(input.type, single, seed + index))
      return [input.name, stack(parts, dimsAt(input, at))]
    }),
  )
}

function stack(parts: readonly Tensor[], dims: readonly number[]): Tensor {
  const first = parts[0]!
  if (first.type === 'string') return { type: 'string', dims, data: parts.flatMap(({ data }) => data as string[]) }
  const length = first.data.length
  const data = allocate(first.type, length * parts.length) as Float32Array
  parts.forEach((part, index) => {
    data.set(part.data as Float32Array, index * length)
  })
  return { type: first.type, dims, data } as Tensor
}

/**
 * The model with `N`, `H` and `W` in place of what is free. Facts of values inside are dropped, since those of the file
 * hold for its own sizes only; so are the shapes of outputs.
 */
export function withFreeInputs(model: Model, inputs: readonly InputShape[], free: Freedom): Model {
  return withGraph(model, {
    inputs: inputs.map((input) => ({ name: input.name, fact: { type: input.type, dims: symbolicDims(input, free) } })),
    outputs: model.graph.outputs.map(({ name, fact }) => ({ name, fact: fact && { type: fact.type } })),
    facts: new Map(),
  })
}

export function symbolicDims({ dims, batch, spatial }: InputShape, free: Freedom): readonly Dim[] {
  return dims.map((dim, axis): Dim => {
    if (free.batch && batch && axis === 0) return 'N'
    if (free.size && axis === spatial?.[0]) return 'H'
    if (free.size && axis === spatial?.[1]) return 'W'
    return dim
  })
}

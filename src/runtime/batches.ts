import type { Tensors } from '../engine/index.ts'
import { allocate, elementCount, type NumericType, type Tensor } from '../tensor/index.ts'

/** Feeds that one run can take together have the same form; nothing for those that have to run alone. */
export function formOf(feeds: Tensors): string | undefined {
  const values = Object.entries(feeds)
  const isFrame = ([, { type, dims }]: [string, Tensor]) => type !== 'string' && dims[0] === 1
  if (values.length === 0 || !values.every(isFrame)) return undefined
  return values.map(([name, { type, dims }]) => `${name} ${type} ${dims.join('x')}`).join(', ')
}

/** Feeds of frames of one form, `[1, …]` each, as those of a batch, `[frames, …]`. */
export function stacked(frames: readonly Tensors[]): Tensors {
  const names = Object.keys(frames[0]!)
  return Object.fromEntries(names.map((name) => [name, stack(frames.map((feeds) => feeds[name]!))]))
}

/** What each frame of a batch gave; nothing where an output has not one part for each frame. */
export function unstacked(outputs: Tensors, frames: number): Tensors[] | undefined {
  if (!Object.values(outputs).every(({ type, dims }) => type !== 'string' && dims[0] === frames)) return undefined
  return Array.from({ length: frames }, (_, frame) =>
    Object.fromEntries(Object.entries(outputs).map(([name, value]) => [name, part(value, frame)])),
  )
}

type Numbers = Float32Array

function stack(parts: readonly Tensor[]): Tensor {
  const { type, dims } = parts[0]!
  const count = elementCount(dims)
  const data = allocate(type as NumericType, count * parts.length)
  parts.forEach((each, i) => {
    ;(data as Numbers).set(each.data as Numbers, i * count)
  })
  return { type, dims: [parts.length, ...dims.slice(1)], data }
}

function part({ type, dims, data }: Tensor, frame: number): Tensor {
  const rest = dims.slice(1)
  const count = elementCount(rest)
  return { type, dims: [1, ...rest], data: (data as Numbers).slice(frame * count, (frame + 1) * count) }
}

import type { Dim, Fact, Model, ValueInfo } from '../graph.ts'
import { withGraph } from '../rewrite.ts'
import { type Freedom, type InputShape, type Situation, symbolicDims } from './inputs.ts'
import type { Recording } from './record.ts'

/** A recording with the batch and the size at which it was made. */
export interface Probe extends Recording {
  readonly at: Situation
}

/**
 * Writes into the graph what the probe runs showed: type and dims of every value. A dim that was the same in all of them is
 * a number; one that follows the batch is `N`, one that follows the input's height or width is `H` or `W`; others that
 * varied together share a symbol such as `H/4`.
 */
export function writeFacts(
  model: Model,
  inputs: readonly InputShape[],
  free: Freedom,
  probes: readonly Probe[],
): Model {
  const { graph } = model
  const symbols = symbolsFor(probes)
  const factAt = (value: string): Fact | undefined => {
    const type = probes[0]!.types.get(value)
    const shapes = probes.map(({ shapes }) => shapes.get(value))
    if (!type || shapes.some((shape) => shape?.length !== shapes[0]?.length)) return type && { type }
    return { type, dims: shapes[0]!.map((_, axis) => symbols(shapes.map((shape) => shape![axis]!))) }
  }
  const facts = new Map<string, Fact>()
  for (const value of graph.nodes.flatMap(({ outputs }) => outputs)) {
    const fact = value === '' ? undefined : factAt(value)
    if (fact) facts.set(value, fact)
  }
  const outputs = graph.outputs.map(({ name, fact }): ValueInfo => ({ name, fact: facts.get(name) ?? fact }))
  for (const { name } of outputs) facts.delete(name)
  return withGraph(model, {
    inputs: inputs.map((input) => ({ name: input.name, fact: { type: input.type, dims: symbolicDims(input, free) } })),
    outputs,
    facts,
  })
}

/** Dims over all probes → a number where they are equal, otherwise one symbol for each way of varying. */
function symbolsFor(probes: readonly Probe[]): (dims: readonly number[]) => Dim {
  const known = new Map<string, string>()
  const height = probes.map(({ at }) => at.size?.[0] ?? 1)
  const width = probes.map(({ at }) => at.size?.[1] ?? 1)
  known.set(probes.map(({ at }) => at.batch).join(), 'N')
  for (const [symbol, sizes] of [
    ['H', height],
    ['W', width],
  ] as const) {
    if (sizes.every((size) => size === sizes[0])) continue
    for (const factor of [1, 2, 4, 8, 16, 32, 64]) {
      const divided = sizes.map((size) => Math.ceil(size / factor)).join()
      const multiplied = sizes.map((size) => size * factor).join()
      if (!known.has(divided)) known.set(divided, factor === 1 ? symbol : `${symbol}/${factor}`)
      if (!known.has(multiplied)) known.set(multiplied, `${symbol}*${factor}`)
    }
  }
  let others = 0
  return (dims) => {
    if (dims.every((dim) => dim === dims[0])) return dims[0]!
    const key = dims.join()
    const symbol = known.get(key) ?? `D${++others}`
    known.set(key, symbol)
    return symbol
  }
}

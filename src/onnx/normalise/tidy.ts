import { tensor } from '../../tensor/index.ts'
import { type Graph, isOp, type Node, node } from '../graph.ts'
import { freshNames } from '../rewrite.ts'

/**
 * One spelling for what has several: Sum as a row of Add, and the bounds of Clip as 0-d constants (the shape [1] that some
 * exporters write keeps ONNX Runtime from fusing Clip in an int8 graph).
 */
export function tidy(graph: Graph): Graph {
  const initializers = new Map(graph.initializers)
  const fresh = freshNames(graph)
  const scalars = new Map<string, string>()
  const scalar = (name: string): string => {
    const value = initializers.get(name)
    if (!value || value.dims.length === 0 || value.data.length !== 1) return name
    const known = scalars.get(name) ?? fresh(`${name}_scalar`)
    scalars.set(name, known)
    initializers.set(known, tensor(value.type, [], value.data))
    return known
  }
  const nodes = graph.nodes.flatMap((each): readonly Node[] => {
    if (isOp(each, 'Clip'))
      return [{ ...each, inputs: each.inputs.map((input, index) => (index > 0 ? scalar(input) : input)) }]
    if (isOp(each, 'Sum') && each.inputs.length > 1) return additions(each, fresh)
    return [each]
  })
  return { ...graph, nodes, initializers }
}

function additions(sum: Node, fresh: (wish: string) => string): readonly Node[] {
  let total = sum.inputs[0]!
  return sum.inputs.slice(1).map((input, index) => {
    const last = index === sum.inputs.length - 2
    const output = last ? sum.outputs[0]! : fresh(`${sum.outputs[0]}_part${index}`)
    const add = { ...node('Add', [total, input], [output]), name: last ? sum.name : output }
    total = output
    return add
  })
}

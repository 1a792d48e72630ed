import { type Graph, isOp } from '../onnx/index.ts'

/** Inputs of operators that hold weights: those that training may change. */
const weightInputs: Readonly<Record<string, readonly number[]>> = {
  Add: [0, 1],
  BatchNormalization: [1, 2],
  Conv: [1, 2],
  ConvTranspose: [1, 2],
  Gemm: [1, 2],
  MatMul: [0, 1],
  Mul: [0, 1],
  PRelu: [1],
}

/**
 * The weights of a graph that can be trained, in the order of its nodes: float tensors of more than one element at a place
 * where an operator takes weights. Single numbers are constants of a formula, not weights.
 */
export function trainableWeights(graph: Graph): readonly string[] {
  const found = new Set<string>()
  for (const each of graph.nodes) {
    if (!isOp(each, ...Object.keys(weightInputs))) continue
    for (const input of weightInputs[each.op]!) {
      const name = each.inputs[input]
      const value = name ? graph.initializers.get(name) : undefined
      const single = value?.data.length === 1 && (each.op === 'Add' || each.op === 'Mul')
      if (name && value?.type === 'float32' && !single) found.add(name)
    }
  }
  return [...found]
}

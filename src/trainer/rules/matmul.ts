import { float, floatAttribute, int, intAttribute } from '../../onnx/index.ts'
import { elementCount } from '../../tensor/index.ts'
import { type Rule, unbroadcast } from './rule.ts'

export const gemm: Rule = (at) => {
  const { emit, node, gradient } = at
  const [a, b, c] = node.inputs as [string, string, string | undefined]
  const [transA, transB] = [intAttribute(node, 'transA', 0), intAttribute(node, 'transB', 0)]
  const alpha = float(floatAttribute(node, 'alpha', 1))
  const product = (left: string, right: string, transLeft: number, transRight: number) =>
    emit.op('Gemm', [left, right], { alpha, transA: int(transLeft), transB: int(transRight) })
  const bias = () => {
    const beta = floatAttribute(node, 'beta', 1)
    const sum = unbroadcast(at, gradient, at.shape(node.outputs[0]!), c!)
    return beta === 1 ? sum : emit.op('Mul', [sum, emit.scalar(beta)])
  }
  return [
    at.wants(0) ? (transA ? product(b, gradient, transB, 1) : product(gradient, b, 0, 1 - transB)) : undefined,
    at.wants(1) ? (transB ? product(gradient, a, 1, transA) : product(a, gradient, 1 - transA, 0)) : undefined,
    at.wants(2) ? bias() : undefined,
  ]
}

export const matMul: Rule = (at) => {
  const { emit, node, gradient } = at
  const [a, b] = node.inputs as [string, string]
  const [left, right, out] = [at.shape(a), at.shape(b), at.shape(node.outputs[0]!)]
  const turned = (value: string, rank: number) =>
    emit.transpose(value, [...Array.from({ length: rank - 2 }, (_, axis) => axis), rank - 1, rank - 2])
  if (left.length < 2 || right.length < 2) {
    // vectors: as matrices of one row or column
    const l = left.length < 2 ? [1, ...left] : left
    const r = right.length < 2 ? [...right, 1] : right
    const rows = l.at(-2)!
    const columns = r.at(-1)!
    const batch = out.slice(0, out.length - (left.length < 2 ? 0 : 1) - (right.length < 2 ? 0 : 1))
    const g = emit.reshape(gradient, [...batch, rows, columns])
    const [lm, rm] = [emit.reshape(a, l), emit.reshape(b, r)]
    const sumTo = (value: string, rank: number, dims: readonly number[]) => {
      const extra = batch.length + 2 - rank
      const summed =
        extra > 0
          ? emit.sum(
              value,
              Array.from({ length: extra }, (_, axis) => axis),
            )
          : value
      return emit.reshape(summed, dims)
    }
    return [
      at.wants(0) ? sumTo(emit.op('MatMul', [g, turned(rm, r.length)]), l.length, left) : undefined,
      at.wants(1) ? sumTo(emit.op('MatMul', [turned(lm, l.length), g]), r.length, right) : undefined,
    ]
  }
  const batch = out.slice(0, -2)
  const gradientOfRight = () => {
    if (right.length > 2) {
      const product = emit.op('MatMul', [turned(a, left.length), gradient])
      return unbroadcast(at, product, [...batch, left.at(-1)!, out.at(-1)!], b)
    }
    // one matrix for the whole batch: one product over all its rows
    const rows = elementCount(left.slice(0, -1))
    const flatLeft = emit.reshape(a, [rows, left.at(-1)!])
    const flatGradient = emit.reshape(gradient, [rows, out.at(-1)!])
    return emit.op('Gemm', [flatLeft, flatGradient], { transA: int(1) })
  }
  return [
    at.wants(0)
      ? unbroadcast(at, emit.op('MatMul', [gradient, turned(b, right.length)]), [...batch, ...left.slice(-2)], a)
      : undefined,
    at.wants(1) ? gradientOfRight() : undefined,
  ]
}

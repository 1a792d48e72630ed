import { type Attributes, type Node, node } from '../onnx/index.ts'
import { elementCount, floats, longs, type NumericType, type Tensor, toBytes } from '../tensor/index.ts'

/** Collects nodes and constants under fresh names, in the order in which they are to run. */
export class Emitter {
  readonly nodes: Node[] = []
  readonly initializers = new Map<string, Tensor>()
  readonly #constants = new Map<string, string>()
  readonly #prefix: string
  #count = 0

  /** @param prefix begins every name, so that no value of the forward graph is shadowed */
  constructor(prefix: string) {
    this.#prefix = prefix
  }

  /** Adds a node with one output and gives that output's name. */
  op(op: string, inputs: readonly string[], attributes: Attributes = {}): string {
    return this.ops(op, inputs, 1, attributes)[0]!
  }

  /** Adds a node with `count` outputs and gives their names. */
  ops(op: string, inputs: readonly string[], count: number, attributes: Attributes = {}): readonly string[] {
    const outputs = Array.from({ length: count }, () => this.#fresh(op))
    this.nodes.push(node(op, inputs, outputs, attributes))
    return outputs
  }

  /** The name of a constant; equal ones are kept once. */
  constant(value: Tensor<NumericType>): string {
    const key = `${value.type}[${value.dims.join()}]${Buffer.from(toBytes(value)).toString('base64')}`
    const known = this.#constants.get(key)
    if (known) return known
    const name = this.#fresh('constant')
    this.initializers.set(name, value)
    this.#constants.set(key, name)
    return name
  }

  longs(...values: readonly number[]): string {
    return this.constant(longs(values))
  }

  scalar(value: number): string {
    return this.constant(floats([], [value]))
  }

  filled(dims: readonly number[], value: number): string {
    return this.constant(floats(dims, new Float32Array(elementCount(dims)).fill(value)))
  }

  reshape(value: string, dims: readonly number[]): string {
    return this.op('Reshape', [value, this.longs(...dims)])
  }

  transpose(value: string, perm: readonly number[]): string {
    return this.op('Transpose', [value], { perm: { kind: 'ints', value: perm } })
  }

  /** Sum over `axes`; they are removed unless `keep`. */
  sum(value: string, axes: readonly number[], keep = false): string {
    return this.op('ReduceSum', [value, this.longs(...axes)], { keepdims: { kind: 'int', value: keep ? 1 : 0 } })
  }

  /** `value[starts:ends:steps]` on `axes`. */
  slice(
    value: string,
    axes: readonly number[],
    starts: readonly number[],
    ends: readonly number[],
    steps?: readonly number[],
  ): string {
    const given = [value, this.longs(...starts), this.longs(...ends), this.longs(...axes)]
    return this.op('Slice', steps ? [...given, this.longs(...steps)] : given)
  }

  /** Pads with `fill`; `before` and `after` count elements on each axis. Gives `value` itself where there is nothing to add. */
  pad(value: string, before: readonly number[], after: readonly number[], fill = 0): string {
    if ([...before, ...after].every((count) => count === 0)) return value
    const given = [value, this.longs(...before, ...after)]
    return this.op('Pad', fill === 0 ? given : [...given, this.scalar(fill)])
  }

  concat(values: readonly string[], axis: number): string {
    return values.length === 1 ? values[0]! : this.op('Concat', values, { axis: { kind: 'int', value: axis } })
  }

  /** A truth value as 0 or 1. */
  mask(condition: string): string {
    return this.op('Cast', [condition], { to: { kind: 'int', value: 1 } })
  }

  #fresh(op: string): string {
    return `${this.#prefix}/${op}_${this.#count++}`
  }
}

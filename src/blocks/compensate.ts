import { seededRandom } from '../base/index.ts'
import { type Graph, intAttribute, isOp, type Model, type Node } from '../onnx/index.ts'
import type { Tensor } from '../tensor/index.ts'
import type { Block, Samples } from './block.ts'
import { gatherColumns, type LayerShape, layerShape, Rows } from './columns.ts'
import { compensationFor, type IntegerSums, type IntegerWeights, integerWeights } from './integer-weights.ts'
import { outputAxis } from './layer-weights.ts'
import type { LinearAlgebra } from './linear.ts'
import { record } from './record.ts'
import { centre, pick } from './reference.ts'

/** Rows for each column, and with how few second moments are those of noise. */
const ROWS = { each: 8, least: 3000, fewest: 4 }
const MOST_ROW_BYTES = 60e6
/** Longer columns take too long to factor. */
const LONGEST_COLUMN = 1536

interface Layer {
  readonly layer: Node
  readonly input: string
  readonly shape: LayerShape
  readonly positions: readonly (readonly number[])[]
  readonly outputWidth: number
  readonly rows: Rows
}

/**
 * Rounds the weights of layers so that on their inputs the errors make up for one another. Layers whose inputs were seen at
 * too few positions, or that have very many, are left out.
 *
 * @param layers of `model`
 * @returns by a layer's first output
 */
export async function roundTogether(
  model: Model,
  layers: readonly Node[],
  samples: Samples,
  nominal: Block['nominal'],
  sums: IntegerSums,
  algebra: LinearAlgebra,
): Promise<ReadonlyMap<string, IntegerWeights>> {
  const wanted = layers.flatMap((layer) => prepared(layer, model.graph, nominal, samples.length) ?? [])
  await record(
    model,
    samples,
    wanted.map(({ input }) => input),
    (values, index) => {
      for (const { rows, input, shape, positions, outputWidth } of wanted) {
        gatherColumns(rows, values[input]!, shape, positions[index]!, outputWidth)
      }
    },
  )
  const result = new Map<string, IntegerWeights>()
  for (const { layer, rows } of wanted) {
    centre(rows)
    const gram = await algebra.transposedProduct(rows.filled, rows.filled, rows.rows)
    const compensation = compensationFor(gram, rows.width)
    const weights = model.graph.initializers.get(layer.inputs[1]!) as Tensor<'float32'>
    result.set(layer.outputs[0]!, integerWeights(weights, { axis: outputAxis(layer), sums, compensation }))
  }
  return result
}

function prepared(layer: Node, graph: Graph, nominal: Block['nominal'], pictures: number): Layer | undefined {
  const output = layer.outputs[0]!
  if (isOp(layer, 'Conv') && intAttribute(layer, 'group', 1) !== 1) return undefined
  const shape = layerShape(layer, graph, nominal)
  const dims = nominal.get(output)
  if (!shape || !dims || shape.columnLength > LONGEST_COLUMN || shape.columnLength < 2) return undefined
  if (!isOp(layer, 'Conv') && dims.length !== 2) return undefined
  const plane = dims.slice(2).reduce((product, size) => product * size, 1)
  const rows = Math.min(Math.max(ROWS.least, ROWS.each * shape.columnLength), MOST_ROW_BYTES / 4 / shape.columnLength)
  const each = Math.max(1, Math.min(plane, Math.ceil(rows / pictures)))
  if (each * pictures < ROWS.fewest * shape.columnLength) return undefined
  const random = seededRandom(output.length + 31 * shape.columnLength)
  return {
    layer,
    input: layer.inputs[0]!,
    shape,
    positions: Array.from({ length: pictures }, () => pick(plane, each, random)),
    outputWidth: dims[3] ?? 1,
    rows: new Rows(each * pictures, shape.columnLength),
  }
}

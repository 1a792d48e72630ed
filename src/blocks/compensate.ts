import { type Graph, intAttribute, isOp, type Model, type Node } from '../onnx/index.ts'
import type { Tensor } from '../tensor/index.ts'
import type { Block, Samples } from './block.ts'
import { gatherColumns, type LayerShape, layerShape, Rows } from './columns.ts'
import {
  type Compensation,
  compensationFor,
  type IntegerSums,
  type IntegerWeights,
  integerWeights,
} from './integer-weights.ts'
import type { LinearAlgebra } from './linear.ts'
import { scaleAxis } from './qdq.ts'
import { record } from './record.ts'
import { centre, pickPositions, type RowRule, rowCount } from './reference.ts'

/** Rows to look at before weights are rounded, and with how few for each column second moments are those of noise. */
export const ROWS: RowRule = { perUnknown: 8, least: 3000, mostBytes: 60e6 }
export const FEWEST_ROWS = 4
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
 * Rounds the weights of layers so that on their inputs the errors make up for one another. Where inputs were seen at too few
 * positions, or are very many, each weight is rounded by itself.
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
  const rowsOf = new Map(wanted.map(({ layer, rows }) => [layer, rows]))
  for (const layer of layers) {
    const rows = rowsOf.get(layer)
    const compensation = rows && (await compensationOf(rows, algebra))
    const weights = model.graph.initializers.get(layer.inputs[1]!) as Tensor<'float32'>
    result.set(layer.outputs[0]!, integerWeights(weights, { axis: scaleAxis(layer, weights), sums, compensation }))
  }
  return result
}

async function compensationOf(rows: Rows, algebra: LinearAlgebra): Promise<Compensation | undefined> {
  centre(rows)
  return compensationFor(await algebra.transposedProduct(rows.filled, rows.filled, rows.rows), rows.width)
}

function prepared(layer: Node, graph: Graph, nominal: Block['nominal'], pictures: number): Layer | undefined {
  const output = layer.outputs[0]!
  if (isOp(layer, 'Conv') && intAttribute(layer, 'group', 1) !== 1) return undefined
  const shape = layerShape(layer, graph, nominal)
  const dims = nominal.get(output)
  if (!shape || !dims || shape.columnLength > LONGEST_COLUMN || shape.columnLength < 2) return undefined
  if (!isOp(layer, 'Conv') && dims.length !== 2) return undefined
  const plane = dims.slice(2).reduce((product, size) => product * size, 1)
  const columns = shape.columnLength
  const positions = pickPositions({ output, plane, columns, width: columns, pictures }, ROWS)
  const count = rowCount(positions)
  if (count < FEWEST_ROWS * columns) return undefined
  return {
    layer,
    input: layer.inputs[0]!,
    shape,
    positions,
    outputWidth: dims[3] ?? 1,
    rows: new Rows(count, columns),
  }
}

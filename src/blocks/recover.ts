import { type Composition, compose, isOp, type Model } from '../onnx/index.ts'
import { type ImitateOptions, imitate, type Likeness, type Trained } from '../trainer/index.ts'
import type { Samples } from './block.ts'
import type { ChosenBlock } from './polish.ts'
import { layerParameters, shadowOf, withShadowWeights } from './shadow.ts'

export interface RecoverOptions extends Omit<ImitateOptions, 'likenesses' | 'parameters' | 'heldOut'> {
  readonly ends: Composition
  /** pictures to measure on, none of which is trained on */
  readonly heldOut: Samples
  /** an output of classes `[N, K]`, compared by divergence */
  readonly classes?: string | undefined
}

export interface Recovered extends Pick<Trained, 'before' | 'after' | 'steps' | 'ms' | 'ended'> {
  /** the blocks' models, in order */
  readonly models: Model[]
}

/** How much all borders together count beside the outputs. */
const BORDERS_WEIGHT = 1

/**
 * Trains a chosen combination as one network, without labels, to give what the original gives at its outputs and at every
 * border: each block learns on what the chosen blocks before it really deliver.
 *
 * 8-bit blocks are trained in float within the limits of their ranges, and stored in 8 bits again.
 *
 * @param teacher the uncut original
 * @throws BlockscaleError MODEL_UNSUPPORTED when an operator has no gradient
 */
export async function recoverCombination(
  blocks: readonly ChosenBlock[],
  teacher: Model,
  feeds: Samples,
  { ends, heldOut, classes, ...options }: RecoverOptions,
): Promise<Recovered> {
  const shadows = blocks.map(({ student }) => shadowOf(student))
  const student = compose(shadows, ends)
  const outputs = teacher.graph.outputs.map(({ name }) => name)
  const inputs = new Set(teacher.graph.inputs.map(({ name }) => name))
  const inner = [...new Set(blocks.flatMap(({ original }) => original.outputs))].filter(
    ({ name, fact }) => !outputs.includes(name) && !inputs.has(name) && fact.type === 'float32',
  )
  const borders = [...new Set(inner.map(({ name }) => name))]
  const likenesses: Likeness[] = [
    ...outputs.map((name): Likeness => {
      if (name !== classes) return { student: name, teacher: name, weight: 1 / outputs.length }
      return { ...beforeSoftmax(student, teacher, name), classes: true }
    }),
    ...borders.map((name) => ({ student: name, teacher: name, weight: BORDERS_WEIGHT / borders.length })),
  ]
  const parameters = shadows.flatMap((shadow, index) => layerParameters(shadow).map((name) => `b${index}/${name}`))
  const trained = await imitate(student, teacher, feeds, { ...options, likenesses, parameters, heldOut })
  const { initializers } = trained.model.graph
  const models = blocks.map((block, index) => {
    const own = layerParameters(shadows[index]!).flatMap((name) => {
      const value = initializers.get(`b${index}/${name}`)
      return value ? [[name, value] as const] : []
    })
    return withShadowWeights(block.student, new Map(own))
  })
  const { before, after, steps, ms, ended } = trained
  return { models, before, after, steps, ms, ended }
}

/** Where an output is a softmax: what goes into it, on both sides. */
function beforeSoftmax(student: Model, teacher: Model, output: string): Likeness {
  const source = (model: Model) => {
    const maker = model.graph.nodes.find(({ outputs }) => outputs.includes(output))
    return maker && isOp(maker, 'Softmax') ? maker.inputs[0]! : output
  }
  return { student: source(student), teacher: source(teacher) }
}

import { z } from 'zod'
import { BlockscaleError } from '../../base/index.ts'
import { type FrontierPoint, type ModelSummary, thinnedCurve } from '../../runtime/index.ts'
import { type Route, route } from '../route.ts'
import { frontier, modelName, modelSummary, numeric } from '../schemas.ts'
import type { Service } from '../service.ts'

export function modelRoutes(service: Service): Route[] {
  return [
    route({
      method: 'get',
      path: '/v1/models',
      tag: 'models',
      summary: 'The models of the zoo, with their blocks and descendants',
      answer: z.object({ models: z.array(modelSummary) }),
      handle: () => ({ models: service.models().map(modelJson) }),
    }),
    route({
      method: 'get',
      path: '/v1/models/{model}',
      tag: 'models',
      summary: 'One model of the zoo',
      params: z.object({ model: modelName }),
      answer: modelSummary,
      errors: ['MODEL_UNKNOWN'],
      handle: ({ params: { model } }) => modelJson(findModel(service, model)),
    }),
    route({
      method: 'get',
      path: '/v1/models/{model}/frontier',
      tag: 'models',
      summary: 'What quality of a model is to be had for which latency and memory',
      description:
        'Every combination of its blocks that no other beats in both, as predicted from the profiles; with `points`, no more of each curve than that: its ends, and those after the largest gains.',
      params: z.object({ model: modelName }),
      query: z.object({
        points: numeric
          .refine((count) => Number.isInteger(count) && count >= 2, 'must be a whole number from 2')
          .optional(),
      }),
      answer: frontier,
      errors: ['MODEL_UNKNOWN', 'NOT_FOUND'],
      async handle({ params: { model }, query: { points = Number.POSITIVE_INFINITY } }) {
        findModel(service, model)
        const { original, latency, memory, tolerance } = await service.runtime.frontier(model)
        return {
          model,
          original: pointJson(original),
          latency: thinnedCurve(latency, points).map(pointJson),
          memory: thinnedCurve(memory, points).map(pointJson),
          tolerance,
        }
      },
    }),
  ]
}

/** @throws BlockscaleError MODEL_UNKNOWN, also when the model is built but no workload asks for it and `loaded` is wanted */
export function findModel(service: Service, model: string): ModelSummary {
  const found = service.models().find((each) => each.model === model)
  if (!found) throw new BlockscaleError('MODEL_UNKNOWN', `there is no model ${model} in the zoo`)
  return found
}

const modelJson = (summary: ModelSummary): z.infer<typeof modelSummary> => ({
  model: summary.model,
  task: summary.task,
  loaded: summary.loaded,
  ...(summary.reason === undefined ? {} : { reason: summary.reason }),
  sizes: summary.sizes.map(([height, width]) => [height, width]),
  inputs: summary.inputs.map(borderJson),
  outputs: summary.outputs.map(borderJson),
  blocks: summary.blocks.map(({ id, descendants }) => ({ id, descendants: descendants.map((each) => ({ ...each })) })),
  options: summary.options,
  ...(summary.labels ? { labels: [...summary.labels] } : {}),
})

function pointJson({ models: [only] }: FrontierPoint): z.infer<typeof frontier>['original'] {
  const { model: _, inputSize, choices, ...predicted } = only!
  return { ...predicted, inputSize: [...inputSize], choices: choices.map((each) => ({ ...each })) }
}

const borderJson = ({
  name,
  fact,
}: ModelSummary['inputs'][number]): z.infer<typeof modelSummary>['inputs'][number] => ({
  name,
  type: fact.type,
  ...(fact.dims ? { dims: [...fact.dims] } : {}),
})

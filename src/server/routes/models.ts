import { z } from 'zod'
import { BlockscaleError } from '../../base/index.ts'
import type { ModelSummary } from '../../runtime/index.ts'
import { type Route, route } from '../route.ts'
import { modelName, modelSummary } from '../schemas.ts'
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

const borderJson = ({
  name,
  fact,
}: ModelSummary['inputs'][number]): z.infer<typeof modelSummary>['inputs'][number] => ({
  name,
  type: fact.type,
  ...(fact.dims ? { dims: [...fact.dims] } : {}),
})

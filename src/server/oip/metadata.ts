import { z } from 'zod'
import type { ModelStatistics, ModelSummary, Tally } from '../../runtime/index.ts'
import { type Route, route } from '../route.ts'
import type { Service } from '../service.ts'
import { statisticsOf, unused } from '../statistics.ts'
import { allDatatypes, datatypeOf } from './datatypes.ts'
import { modelOf, modelParams, modelPaths, VERSION } from './inference.ts'

const TAG = 'open inference protocol'
const PLATFORM = 'onnxruntime_onnx'

const tensorMetadata = z.object({ name: z.string(), datatype: z.enum(allDatatypes), shape: z.array(z.int()) })

const modelMetadata = z
  .object({
    name: z.string(),
    versions: z.array(z.string()),
    platform: z.string(),
    inputs: z.array(tensorMetadata),
    outputs: z.array(tensorMetadata),
  })
  .meta({ id: 'ModelMetadata' })

const tally = z.object({ count: z.int(), ns: z.int() })

const statistics = z
  .object({
    model_stats: z.array(
      z.object({
        name: z.string(),
        version: z.string(),
        last_inference: z.int(),
        inference_count: z.int(),
        execution_count: z.int(),
        inference_stats: z.object({
          success: tally,
          fail: tally,
          queue: tally,
          compute_input: tally,
          compute_infer: tally,
          compute_output: tally,
          cache_hit: tally,
          cache_miss: tally,
        }),
        batch_stats: z.array(z.object({})),
      }),
    ),
  })
  .meta({ id: 'ModelStatistics' })

/** What the server and its models are, in the words of the Open Inference Protocol. */
export function metadataRoutes(service: Service, version: string): Route[] {
  return [
    route({
      method: 'get',
      path: '/v2',
      tag: TAG,
      summary: 'The server and its extensions',
      answer: z.object({ name: z.string(), version: z.string(), extensions: z.array(z.string()) }),
      handle: () => ({
        name: 'blockscale',
        version,
        extensions: [
          'binary_tensor_data',
          'model_repository',
          'model_repository(unload_dependents)',
          'model_configuration',
          'statistics',
        ],
      }),
    }),
    route({
      method: 'get',
      path: '/v2/models/stats',
      tag: TAG,
      summary: 'Statistics of all models',
      answer: statistics,
      handle: () => ({ model_stats: statisticsOf(service.runtime).map(statisticsJson) }),
    }),
    ...modelPaths('').map((path) =>
      route({
        method: 'get',
        path,
        tag: TAG,
        summary: 'Inputs and outputs of a model',
        params: modelParams,
        answer: modelMetadata,
        errors: ['MODEL_UNKNOWN'],
        handle: ({ params }) => metadataJson(modelOf(service, params)),
      }),
    ),
    ...modelPaths('/ready').map((path) =>
      route({
        method: 'get',
        path,
        tag: TAG,
        summary: 'Whether a model answers; 503 when not',
        params: modelParams,
        answer: z.object({ name: z.string(), ready: z.boolean() }),
        errors: ['MODEL_UNKNOWN'],
        handle({ params, response }) {
          const model = modelOf(service, params)
          const ready = isReady(service, model)
          if (!ready) response.status(503)
          return { name: model.model, ready }
        },
      }),
    ),
    ...modelPaths('/config').map((path) =>
      route({
        method: 'get',
        path,
        tag: TAG,
        summary: 'The configuration of a model, in the words of Triton',
        params: modelParams,
        answer: z.looseObject({ name: z.string(), platform: z.string(), backend: z.string(), max_batch_size: z.int() }),
        errors: ['MODEL_UNKNOWN'],
        handle: ({ params }) => configJson(modelOf(service, params)),
      }),
    ),
    ...modelPaths('/stats').map((path) =>
      route({
        method: 'get',
        path,
        tag: TAG,
        summary: 'Statistics of a model',
        params: modelParams,
        answer: statistics,
        errors: ['MODEL_UNKNOWN'],
        handle({ params }) {
          const { model } = modelOf(service, params)
          const found = statisticsOf(service.runtime).find((each) => each.model === model)
          return { model_stats: [statisticsJson(found ?? unused(model))] }
        },
      }),
    ),
  ]
}

export const isReady = (service: Service, model: ModelSummary): boolean =>
  !service.stopping.aborted && model.loaded && model.reason === undefined

const shapeOf = ({ fact }: ModelSummary['inputs'][number]): number[] =>
  (fact.dims ?? []).map((dim) => (typeof dim === 'number' && dim >= 0 ? dim : -1))

const metadataJson = (model: ModelSummary): z.infer<typeof modelMetadata> => ({
  name: model.model,
  versions: [VERSION],
  platform: PLATFORM,
  inputs: model.inputs.map((each) => ({ name: each.name, datatype: datatypeOf(each.fact.type), shape: shapeOf(each) })),
  outputs: model.outputs.map((each) => ({
    name: each.name,
    datatype: datatypeOf(each.fact.type),
    shape: shapeOf(each),
  })),
})

/** `max_batch_size` 0 says that shapes hold the batch dimension, where there is one. */
const configJson = (model: ModelSummary) => ({
  name: model.model,
  platform: PLATFORM,
  backend: 'onnxruntime',
  max_batch_size: 0,
  input: model.inputs.map(configTensor),
  output: model.outputs.map(configTensor),
})

const configTensor = (each: ModelSummary['inputs'][number]) => {
  const datatype = datatypeOf(each.fact.type)
  return { name: each.name, data_type: `TYPE_${datatype === 'BYTES' ? 'STRING' : datatype}`, dims: shapeOf(each) }
}

const none: Tally = { count: 0, ns: 0 }
const whole = ({ count, ns }: Tally): Tally => ({ count, ns: Math.round(ns) })

const statisticsJson = (each: ModelStatistics): z.infer<typeof statistics>['model_stats'][number] => ({
  name: each.model,
  version: VERSION,
  last_inference: Math.round(each.lastInference),
  inference_count: each.inferenceCount,
  execution_count: each.executionCount,
  inference_stats: {
    success: whole(each.success),
    fail: whole(each.fail),
    queue: whole(each.queue),
    compute_input: whole(each.input),
    compute_infer: whole(each.infer),
    compute_output: whole(each.output),
    cache_hit: none,
    cache_miss: none,
  },
  batch_stats: [],
})

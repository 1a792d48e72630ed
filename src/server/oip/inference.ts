import type { Response } from 'express'
import { z } from 'zod'
import { BlockscaleError } from '../../base/index.ts'
import type { Inference, ModelSummary } from '../../runtime/index.ts'
import { readParts } from '../body.ts'
import { type Route, route } from '../route.ts'
import { findModel } from '../routes/models.ts'
import { optionsOf } from '../routes/predict.ts'
import { modelName } from '../schemas.ts'
import type { Service } from '../service.ts'
import { countUpload, goneSignal } from '../upload.ts'
import {
  type InferBody,
  type InferRequest,
  inferRequest,
  inferResponse,
  jsonBytes,
  parseRequest,
  readInputs,
  wantedOutputs,
  writeResponse,
} from './message.ts'

export const VERSION = '1'

/** A model's path with and without a version; we have one version of each. */
export const modelPaths = (rest: string): readonly string[] => [
  `/v2/models/{model}${rest}`,
  `/v2/models/{model}/versions/{version}${rest}`,
]

export const modelParams = z.object({ model: modelName, version: z.string().meta({ example: VERSION }).optional() })

/** @throws BlockscaleError MODEL_UNKNOWN for an unknown model or a version that there is not */
export function modelOf(service: Service, { model, version }: z.infer<typeof modelParams>): ModelSummary {
  const found = findModel(service, model)
  if (version !== undefined && version !== VERSION) {
    throw new BlockscaleError('MODEL_UNKNOWN', `${model} has no version ${version}; there is ${VERSION}`)
  }
  return found
}

/** Tensors in, tensors out. */
export function inferenceRoutes(service: Service): Route[] {
  const { limits, runtime } = service
  return modelPaths('/infer').map((path) =>
    route({
      method: 'post',
      path,
      tag: 'open inference protocol',
      summary: 'Tensors in, tensors out',
      description:
        'JSON, or JSON and raw tensors with Inference-Header-Content-Length. Request parameters: `timeout` (microseconds), `deadline_ms`, `min_quality`. Response parameters: plan, quality, gear and times.',
      params: modelParams,
      contents: [
        { type: 'application/json', schema: inferRequest },
        { type: 'application/octet-stream', schema: { type: 'string', format: 'binary' } },
      ],
      answer: [
        { type: 'application/json', schema: inferResponse },
        { type: 'application/octet-stream', schema: { type: 'string', format: 'binary' } },
      ],
      errors: ['MODEL_UNKNOWN', 'TENSOR_INVALID', 'OVERLOADED', 'ENGINE_LOST', 'DEADLINE_EXCEEDED'],
      models: (params) => [params.model!],
      before: [countUpload(service)],
      async handle({ params, request, response }) {
        const since = performance.now()
        const model = modelOf(service, params)
        const told = request.get('Inference-Header-Content-Length')
        const { head, rest } = await readParts(request, limits.bodyBytes, jsonBytes(told))
        if (told !== undefined && head.length < jsonBytes(told)) {
          throw new BlockscaleError('USAGE', `Inference-Header-Content-Length ${told} is more than the body has`)
        }
        const json = parseRequest(head)
        const wanted = wantedOutputs(json, model.outputs)
        const wish = wishesOf(json)
        const feeds = readInputs(json, rest, model.inputs)
        const place = service.gate.enter([model.model])
        let result: Inference
        try {
          checkQuality(service, model.model, wish.minQuality)
          const asked = { since, deadlineMs: wish.deadlineMs, signal: goneSignal(response) }
          result = await runtime.infer(model.model, feeds, wanted.names, optionsOf(asked))
        } finally {
          place.leave()
        }
        const body = writeResponse(
          {
            model_name: model.model,
            model_version: VERSION,
            ...(json.id == null ? {} : { id: json.id }),
            parameters: responseParameters(result),
          },
          wanted.names.map((each) => [each, outputOf(result, each)] as const),
          wanted.isBinary,
        )
        sendParts(response, body)
        return undefined
      },
    }),
  )
}

function sendParts(response: Response, { json, raw }: InferBody): void {
  response.set('Content-Length', String(raw.reduce((sum, { byteLength }) => sum + byteLength, json.length)))
  if (raw.length === 0) response.set('Content-Type', 'application/json; charset=utf-8')
  else {
    response.set('Content-Type', 'application/octet-stream')
    response.set('Inference-Header-Content-Length', String(json.length))
  }
  response.cork()
  for (const part of [json, ...raw]) response.write(part)
  response.end()
  response.uncork()
}

interface Wishes {
  readonly deadlineMs: number | undefined
  readonly minQuality: number | undefined
}

/** Limits for this one request; `timeout` is Triton's word, in microseconds. */
function wishesOf({ parameters }: InferRequest): Wishes {
  const positive = (key: string): number | undefined => {
    const value = parameters?.[key]
    if (value == null) return undefined
    if (typeof value !== 'number' || !(value > 0)) {
      throw new BlockscaleError('USAGE', `parameters.${key} must be a positive number`)
    }
    return value
  }
  const timeout = positive('timeout')
  return {
    deadlineMs: positive('deadline_ms') ?? (timeout === undefined ? undefined : timeout / 1000),
    minQuality: positive('min_quality'),
  }
}

function checkQuality(service: Service, model: string, floor: number | undefined): void {
  if (floor === undefined) return
  const quality = service.runtime.live().models.find((each) => each.model === model)?.predicted.quality
  if (quality !== undefined && quality < floor) {
    throw new BlockscaleError(
      'PLAN_INFEASIBLE',
      `the plan in force gives ${model} a quality of ${quality}; ${floor} was asked for`,
    )
  }
}

const responseParameters = ({
  plan,
  quality,
  latencyMs,
  queueMs,
  gear,
}: Inference): Record<string, string | number> => ({
  plan,
  quality,
  latency_ms: latencyMs,
  queue_ms: queueMs,
  gear,
})

function outputOf(result: Inference, output: string): Inference['outputs'][string] {
  const value = result.outputs[output]
  if (!value) throw new BlockscaleError('ENGINE_FAILED', `the model gave no output ${output}`)
  return value
}

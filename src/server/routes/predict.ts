import { z } from 'zod'
import { BlockscaleError } from '../../base/index.ts'
import type { Prediction, RequestOptions } from '../../runtime/index.ts'
import { answerJson } from '../../tasks/index.ts'
import type { Picture } from '../../tensor/index.ts'
import { type AnswerJson, answer } from '../answer-schema.ts'
import { failureJson, failureOf } from '../failure.ts'
import { type Content, type Route, route } from '../route.ts'
import { failure, modelName, numeric } from '../schemas.ts'
import type { Service } from '../service.ts'
import { goneSignal, readUpload, uploadOf, withPicture } from '../upload.ts'
import { findModel } from './models.ts'

/** One deadline for the whole request: it begins when its body is there, so decoding counts too. */
export const deadline = numeric
  .refine((ms) => ms > 0 && ms <= 600_000, 'must be more than 0 and at most 600000')
  .optional()
  .meta({ description: 'milliseconds from now within which the answer must be there; 504 when it cannot' })

const picture = z.string().meta({ format: 'binary' })

export const pictureContents: readonly Content[] = [
  ...['image/jpeg', 'image/png', 'image/webp'].map(
    (type): Content => ({ type, schema: { type: 'string', format: 'binary' } }),
  ),
  { type: 'multipart/form-data', schema: z.object({ image: picture }) },
]

/** What a request told of itself beside its picture. */
export interface Asked {
  readonly since: number
  readonly deadlineMs: number | undefined
  readonly signal: AbortSignal
}

/** Time that is left, for a runtime that counts from now. */
export function optionsOf(asked: Asked): RequestOptions {
  if (asked.deadlineMs === undefined) return { signal: asked.signal }
  const left = asked.deadlineMs - (performance.now() - asked.since)
  if (left <= 0) throw new BlockscaleError('DEADLINE_EXCEEDED', 'the deadline passed while the request was read')
  return { signal: asked.signal, deadlineMs: left }
}

export async function predictionJson(prediction: Prediction): Promise<AnswerJson> {
  const { plan, latencyMs, queueMs, quality, gear } = prediction
  const { width, height } = prediction.picture
  const json = await answerJson(prediction.answer)
  const served = { picture: { width, height }, plan, latencyMs, queueMs, quality, gear }
  return { task: prediction.answer.task, ...json, ...served } as AnswerJson
}

const frameAnswer = z
  .object({
    answers: z
      .record(z.string(), z.union([answer, failure]))
      .meta({ description: 'for each model its answer, or why it has none' }),
  })
  .meta({ id: 'FrameAnswers' })

export type FrameAnswers = z.infer<typeof frameAnswer>

/** One decoded picture through several models; one that fails does not spoil the answers of the others. */
export async function predictAll(
  service: Service,
  models: readonly string[],
  picture: Picture,
  asked: Asked,
): Promise<{ answers: FrameAnswers['answers']; failures: unknown[] }> {
  const failures: unknown[] = []
  const entries = await Promise.all(
    models.map(async (model) => {
      try {
        return [model, await predictionJson(await service.runtime.predict(model, picture, optionsOf(asked)))] as const
      } catch (thrown) {
        failures.push(thrown)
        return [model, failureJson(failureOf(thrown))] as const
      }
    }),
  )
  return { answers: Object.fromEntries(entries), failures }
}

/** `a,b` as model names. @throws BlockscaleError USAGE */
export function modelList(service: Service, text: string): readonly string[] {
  const models = [...new Set(text.split(',').map((each) => each.trim()))].filter((each) => each !== '')
  if (models.length === 0) throw new BlockscaleError('USAGE', 'query.models: names no model', 'write ?models=a,b')
  if (models.length > service.limits.modelsPerFrame) {
    throw new BlockscaleError('USAGE', `query.models: at most ${service.limits.modelsPerFrame} models for one frame`)
  }
  return models
}

export function predictRoutes(service: Service): Route[] {
  return [
    route({
      method: 'post',
      path: '/v1/models/{model}/predict',
      tag: 'models',
      summary: 'One picture through one model',
      description:
        'The picture is the body itself, or the first file of a multipart form. Its format is known by its content.',
      params: z.object({ model: modelName }),
      query: z.object({ deadlineMs: deadline }),
      contents: pictureContents,
      models: (params) => [params.model!],
      before: readUpload(service),
      answer,
      errors: [
        'MODEL_UNKNOWN',
        'PICTURE_UNREADABLE',
        'PICTURE_TOO_LARGE',
        'OVERLOADED',
        'ENGINE_LOST',
        'DEADLINE_EXCEEDED',
      ],
      async handle({ params: { model }, query, request, response }) {
        const asked: Asked = { since: performance.now(), deadlineMs: query.deadlineMs, signal: goneSignal(response) }
        // before a picture is decoded that nobody will look at
        findModel(service, model)
        return withPicture(service, [model], uploadOf(request).bytes, async (picture) =>
          predictionJson(await service.runtime.predict(model, picture, optionsOf(asked))),
        )
      },
    }),
    route({
      method: 'post',
      path: '/v1/frames',
      tag: 'models',
      summary: 'One picture through several models, decoded once',
      query: z.object({
        models: z.string().meta({ description: 'names, separated by commas', example: 'signs,sign-detector' }),
        deadlineMs: deadline,
      }),
      contents: pictureContents,
      models: (_params, asked) => modelList(service, asked.get('models') ?? ''),
      before: readUpload(service),
      answer: frameAnswer,
      errors: ['PICTURE_UNREADABLE', 'PICTURE_TOO_LARGE', 'OVERLOADED'],
      async handle({ query, request, response }) {
        const asked: Asked = { since: performance.now(), deadlineMs: query.deadlineMs, signal: goneSignal(response) }
        const models = modelList(service, query.models)
        return withPicture(service, models, uploadOf(request).bytes, async (picture) => {
          const { answers, failures } = await predictAll(service, models, picture, asked)
          if (failures.length === models.length) throw failures[0]
          return { answers }
        })
      },
    }),
  ]
}

import { randomUUID } from 'node:crypto'
import type { Request, Response } from 'express'
import { z } from 'zod'
import { BlockscaleError } from '../../base/index.ts'
import type { ModelSummary, Prediction } from '../../runtime/index.ts'
import type { TaskName } from '../../tasks/index.ts'
import { type Route, route } from '../route.ts'
import { modelName } from '../schemas.ts'
import type { Service } from '../service.ts'
import { goneSignal, readUpload, uploadOf, withPicture } from '../upload.ts'
import { pictureContents } from './predict.ts'

const TAG = 'deepstack'
const DEFAULT_CONFIDENCE = 0.4
/** Recorders read the best twenty and stop at the first that they do not like. */
const MAX_PREDICTIONS = 20

const prediction = z
  .object({
    confidence: z.number(),
    label: z.string().optional().meta({ description: 'absent for faces' }),
    x_min: z.int(),
    y_min: z.int(),
    x_max: z.int(),
    y_max: z.int(),
  })
  .meta({ id: 'DeepStackPrediction' })

const common = z.object({
  success: z.literal(true),
  duration: z.int(),
  code: z.int(),
  command: z.string(),
  moduleId: z.string(),
  moduleName: z.string(),
  requestId: z.string(),
  inferenceDevice: z.string(),
  inferenceMs: z.int(),
  processMs: z.int(),
  timestampUTC: z.string(),
})
const detections = common
  .extend({ message: z.string(), count: z.int(), predictions: z.array(prediction) })
  .meta({ id: 'DeepStackDetections' })
const scene = common.extend({ label: z.string(), confidence: z.number() }).meta({ id: 'DeepStackScene' })

type Found = z.infer<typeof prediction>

/**
 * What recorders call without any code of theirs: the contract of DeepStack and CodeProject.AI.
 *
 * Boxes are whole pixels of the upright picture, best first, labels in lower case.
 */
export function deepstackRoutes(service: Service): Route[] {
  const picked = (task: TaskName) => (): readonly string[] => {
    const model = choose(service, task)
    return model ? [model.model] : []
  }
  const finder = (path: string, command: string, task: TaskName): Route =>
    route({
      method: 'post',
      path,
      tag: TAG,
      summary: `${command === 'detect' ? 'Objects' : 'Faces'} in a picture`,
      contents: pictureContents,
      models: picked(task),
      before: readUpload(service),
      answer: detections,
      errors: ['MODEL_UNKNOWN', 'PICTURE_UNREADABLE', 'OVERLOADED'],
      handle: ({ request, response }) => find(service, request, response, needed(service, task), command),
    })
  return [
    finder('/v1/vision/detection', 'detect', 'detection'),
    finder('/v1/vision/face', 'face', 'face-detection'),
    route({
      method: 'post',
      path: '/v1/vision/scene',
      tag: TAG,
      summary: 'What a picture shows',
      contents: pictureContents,
      models: picked('classification'),
      before: readUpload(service),
      answer: scene,
      errors: ['MODEL_UNKNOWN', 'PICTURE_UNREADABLE', 'OVERLOADED'],
      async handle({ request, response }) {
        const since = performance.now()
        const served = await predict(service, request, response, needed(service, 'classification'))
        const best = served.answer.task === 'classification' ? served.answer.labels[0] : undefined
        return {
          success: true,
          label: best?.label.toLowerCase() ?? '',
          confidence: best?.score ?? 0,
          ...particulars(request, 'scene', since, served),
        }
      },
    }),
    route({
      method: 'post',
      path: '/v1/vision/custom/list',
      tag: TAG,
      summary: 'Models that /v1/vision/custom/{model} takes',
      answer: z.object({ success: z.literal(true), models: z.array(z.string()), duration: z.int() }),
      before: readUpload(service),
      handle({ request }) {
        checkKey(service, request)
        const models = service.models().filter((each) => each.loaded && isCustom(each))
        return { success: true, models: models.map((each) => each.model), duration: 0 }
      },
    }),
    route({
      method: 'post',
      path: '/v1/vision/custom/{model}',
      tag: TAG,
      summary: 'Objects in a picture, by a model of choice',
      params: z.object({ model: modelName }),
      contents: pictureContents,
      models: (params) => [params.model!],
      before: readUpload(service),
      answer: detections,
      errors: ['MODEL_UNKNOWN', 'PICTURE_UNREADABLE', 'OVERLOADED'],
      handle({ params, request, response }) {
        const model = service.models().find((each) => each.model === params.model)
        if (!model || !isCustom(model)) {
          throw new BlockscaleError('MODEL_UNKNOWN', `there is no model ${params.model} that finds or names objects`)
        }
        return find(service, request, response, model, 'custom')
      },
    }),
    route({
      method: 'get',
      path: '/v1/server/status/ping',
      tag: TAG,
      summary: 'Whether the server answers',
      open: true,
      answer: z.object({ success: z.literal(true), message: z.string() }),
      handle: () => ({ success: true, message: 'pong' }),
    }),
  ]
}

const isCustom = ({ task }: ModelSummary): boolean =>
  task === 'detection' || task === 'face-detection' || task === 'classification'

/** The model for a task: one that answers before one that would have to be loaded. */
function choose(service: Service, task: TaskName): ModelSummary | undefined {
  const candidates = service.models().filter((each) => each.task === task)
  return candidates.find((each) => each.loaded && !each.reason) ?? candidates.find((each) => each.loaded)
}

function needed(service: Service, task: TaskName): ModelSummary {
  const model = choose(service, task)
  if (!model) throw new BlockscaleError('MODEL_UNKNOWN', `no model for ${task} is loaded`)
  return model
}

/** Recorders send their key as a field of the form, so it can be checked only after the form was read. */
function checkKey(service: Service, request: Request): void {
  const key = uploadOf(request).fields.api_key ?? String(request.query.api_key ?? '')
  const refused = service.refusal(request, key)
  if (refused) throw refused
}

async function predict(
  service: Service,
  request: Request,
  response: Response,
  model: ModelSummary,
): Promise<Prediction> {
  checkKey(service, request)
  const { bytes } = uploadOf(request)
  const signal = goneSignal(response)
  return withPicture(service, [model.model], bytes, (picture) =>
    service.runtime.predict(model.model, picture, { signal }),
  )
}

async function find(
  service: Service,
  request: Request,
  response: Response,
  model: ModelSummary,
  command: string,
): Promise<z.infer<typeof detections>> {
  const since = performance.now()
  const floor = confidenceOf(request)
  const served = await predict(service, request, response, model)
  const predictions = foundIn(served)
    .filter((each) => each.confidence >= floor)
    .sort((a, b) => b.confidence - a.confidence)
    .slice(0, MAX_PREDICTIONS)
  const isFace = command === 'face'
  return {
    success: true,
    predictions: isFace ? predictions.map(({ label: _, ...face }) => face) : predictions,
    count: predictions.length,
    message: isFace ? facesFound(predictions.length) : objectsFound(predictions),
    ...particulars(request, command, since, served),
  }
}

const objectsFound = (found: readonly Found[]): string =>
  found.length ? `Found ${found.map((each) => each.label).join(', ')}` : 'No objects found'

const facesFound = (count: number): string =>
  count === 0 ? 'No faces found' : `Found ${count} face${count === 1 ? '' : 's'}`

function confidenceOf(request: Request): number {
  const text = uploadOf(request).fields.min_confidence
  if (text === undefined || text.trim() === '') return DEFAULT_CONFIDENCE
  const value = Number(text)
  if (!(value >= 0 && value <= 1)) throw new BlockscaleError('USAGE', `min_confidence must be 0 to 1, not ${text}`)
  return value
}

/** A classifier's answer counts as one object that fills the picture, as custom classifiers of others do. */
function foundIn({ answer, picture }: Prediction): Found[] {
  if (answer.task === 'classification') {
    const whole = { x_min: 0, y_min: 0, x_max: picture.width, y_max: picture.height }
    return answer.labels.map((each) => ({ confidence: each.score, label: each.label.toLowerCase(), ...whole }))
  }
  if (answer.task !== 'detection' && answer.task !== 'face-detection') return []
  const within = (value: number, limit: number): number => Math.min(limit, Math.max(0, Math.round(value)))
  return answer.boxes.map((box) => ({
    confidence: box.score,
    label: (box.label || 'face').toLowerCase(),
    x_min: within(box.xMin, picture.width),
    y_min: within(box.yMin, picture.height),
    x_max: within(box.xMax, picture.width),
    y_max: within(box.yMax, picture.height),
  }))
}

function particulars(request: Request, command: string, since: number, served: Prediction) {
  const processMs = Math.round(performance.now() - since)
  return {
    duration: processMs,
    code: 200,
    command,
    moduleId: 'blockscale',
    moduleName: 'blockscale',
    requestId: typeof request.id === 'string' ? request.id : randomUUID(),
    inferenceDevice: 'CPU',
    inferenceMs: Math.round(served.latencyMs),
    processMs,
    timestampUTC: new Date().toUTCString(),
  }
}

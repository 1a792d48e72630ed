import { z } from 'zod'
import { BlockscaleError } from '../../base/index.ts'
import { jsonBody } from '../body.ts'
import { type Route, route } from '../route.ts'
import { findModel } from '../routes/models.ts'
import { modelName } from '../schemas.ts'
import type { Service } from '../service.ts'
import { VERSION } from './inference.ts'
import { isReady } from './metadata.ts'

const TAG = 'open inference protocol'

const entry = z
  .object({ name: z.string(), version: z.string().optional(), state: z.string(), reason: z.string() })
  .meta({ id: 'RepositoryEntry' })

/** Loading gives a model a default workload; unloading takes all of its workloads away. */
export function repositoryRoutes(service: Service): Route[] {
  const { runtime } = service
  const params = z.object({ model: modelName })
  const done = z.object({ name: z.string(), load: z.boolean() })
  const before = [jsonBody(service.limits.jsonBytes)]
  return [
    route({
      method: 'post',
      path: '/v2/repository/index',
      tag: TAG,
      summary: 'All models of the zoo and their states',
      body: z.object({ ready: z.boolean().optional().meta({ description: 'true: only models that are ready' }) }),
      before,
      answer: z.array(entry),
      handle: ({ body }) =>
        service
          .models()
          .map((model): z.infer<typeof entry> => {
            const ready = isReady(service, model)
            const reason = model.reason ?? (model.loaded ? '' : 'unloaded')
            return {
              name: model.model,
              version: VERSION,
              state: ready ? 'READY' : 'UNAVAILABLE',
              reason: ready ? '' : reason,
            }
          })
          .filter((each) => body.ready !== true || each.state === 'READY'),
    }),
    route({
      method: 'post',
      path: '/v2/repository/models/{model}/load',
      tag: TAG,
      summary: 'Gives a model a default workload, where none asks for it',
      params,
      body: z.object({ parameters: z.record(z.string(), z.unknown()).optional() }),
      before,
      answer: done,
      errors: ['MODEL_UNKNOWN', 'PLAN_INFEASIBLE'],
      async handle({ params: { model }, body }) {
        findModel(service, model)
        const refused = Object.keys(body.parameters ?? {}).find((key) => key === 'config' || key.startsWith('file:'))
        if (refused) {
          throw new BlockscaleError('USAGE', `parameters.${refused}: models come from the zoo only, not from requests`)
        }
        await runtime.load(model)
        return { name: model, load: true }
      },
    }),
    route({
      method: 'post',
      path: '/v2/repository/models/{model}/unload',
      tag: TAG,
      summary: 'Takes all workloads of a model away',
      params,
      body: z.object({ parameters: z.record(z.string(), z.unknown()).optional() }),
      before,
      answer: done,
      errors: ['MODEL_UNKNOWN'],
      async handle({ params: { model } }) {
        findModel(service, model)
        await runtime.unload(model)
        return { name: model, load: false }
      },
    }),
  ]
}

import { z } from 'zod'
import { BlockscaleError } from '../../base/index.ts'
import { jsonBody } from '../body.ts'
import { type Route, route } from '../route.ts'
import { change, namedWorkload, workload, workloadName } from '../schemas.ts'
import type { Service } from '../service.ts'

const params = z.object({ id: workloadName })

/** The standing wishes of applications; each change plans anew. */
export function workloadRoutes(service: Service): Route[] {
  const { runtime } = service
  return [
    route({
      method: 'get',
      path: '/v1/workloads',
      tag: 'workloads',
      summary: 'All standing wishes',
      answer: z.object({ workloads: z.array(namedWorkload) }),
      handle: () => ({ workloads: [...runtime.workloads()].map(([id, wish]) => ({ id, ...wish })) }),
    }),
    route({
      method: 'put',
      path: '/v1/workloads/{id}',
      tag: 'workloads',
      summary: 'Says what an application needs of a model; plans anew',
      description: 'When no plan fits, nothing changes and the answer says which limit is short by how much.',
      params,
      body: workload,
      before: [jsonBody(service.limits.jsonBytes)],
      answer: change.extend({ workload: namedWorkload }),
      errors: ['MODEL_UNKNOWN', 'PLAN_INFEASIBLE'],
      async handle({ params: { id }, body }) {
        const { plan, swap } = await runtime.putWorkload(id, body)
        return { workload: { id, ...body }, plan, swap }
      },
    }),
    route({
      method: 'get',
      path: '/v1/workloads/{id}',
      tag: 'workloads',
      summary: 'One standing wish',
      params,
      answer: namedWorkload,
      errors: ['NOT_FOUND'],
      handle({ params: { id } }) {
        const wish = runtime.workloads().get(id)
        if (!wish) throw new BlockscaleError('NOT_FOUND', `there is no workload ${id}`, 'GET /v1/workloads lists them')
        return { id, ...wish }
      },
    }),
    route({
      method: 'delete',
      path: '/v1/workloads/{id}',
      tag: 'workloads',
      summary: 'Takes a wish away; plans anew',
      params,
      answer: change,
      errors: ['NOT_FOUND'],
      handle: ({ params: { id } }) => runtime.deleteWorkload(id),
    }),
  ]
}

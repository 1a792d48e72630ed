import type { z } from 'zod'
import type { Live } from '../../runtime/index.ts'
import { jsonBody } from '../body.ts'
import { type Route, route } from '../route.ts'
import { budget, budgetInUse, change, livePlan, plan, whatIf } from '../schemas.ts'
import type { Service } from '../service.ts'

/** The budget of all models together, the plan that it led to, and what another would lead to. */
export function planRoutes(service: Service): Route[] {
  const { runtime } = service
  return [
    route({
      method: 'get',
      path: '/v1/budget',
      tag: 'plan',
      summary: 'What all models together may use, and use',
      answer: budgetInUse,
      handle: () => runtime.budget(),
    }),
    route({
      method: 'put',
      path: '/v1/budget',
      tag: 'plan',
      summary: 'Sets the budget, plans anew and answers with the plan and what was swapped',
      description:
        'The whole budget is replaced: a field that is absent is no limit any more. When no plan fits, nothing changes and the answer says which limit is short by how much.',
      body: budget,
      before: [jsonBody(service.limits.jsonBytes)],
      answer: change.extend({ budget: budgetInUse }),
      errors: ['PLAN_INFEASIBLE'],
      async handle({ body }) {
        const { plan, swap } = await runtime.setBudget(body)
        return { budget: runtime.budget(), plan, swap }
      },
    }),
    route({
      method: 'get',
      path: '/v1/plan',
      tag: 'plan',
      summary: 'The live plan, predicted and measured',
      answer: livePlan,
      handle: () => livePlanJson(runtime.live()),
    }),
    route({
      method: 'post',
      path: '/v1/plan',
      tag: 'plan',
      summary: 'The plan that other wishes or another budget would get; nothing changes',
      description: 'An infeasible plan is an answer here: `infeasible` says which limit and the least that would do.',
      body: whatIf,
      before: [jsonBody(service.limits.jsonBytes)],
      answer: plan,
      errors: ['MODEL_UNKNOWN'],
      handle: ({ body }) => runtime.whatIf(body),
    }),
  ]
}

/** The plan in force in the form of `plan --json`, with what each model really does added to it. */
export function livePlanJson(live: Live): z.infer<typeof livePlan> {
  const { plan } = live
  return {
    ...plan,
    id: live.id,
    binding: [...plan.binding],
    models: live.models.map((each) => {
      const planned = plan.models.find(({ model }) => model === each.model)
      return {
        ...planned,
        model: each.model,
        inputSize: [...each.inputSize],
        choices: each.blocks.map(({ id, descendant }) => ({ block: id, descendant })),
        predicted: planned?.predicted ?? each.predicted,
        blocks: each.blocks.map((block) => ({ ...block })),
        measured: { ...each.measured },
        gear: each.gear,
        core: each.core,
        replicas: [...each.replicas],
        batch: each.batch,
        state: each.state,
      }
    }),
    unserved: live.unserved.map((each) => ({ ...each })),
    memory: { ...live.memory },
  }
}

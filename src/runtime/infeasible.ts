import { BlockscaleError, formatBytes } from '../base/index.ts'
import type { Infeasible, Plan } from '../optimizer/index.ts'

/** No plan fits; `plan` is what `plan --json` prints then: which limit, and the least that would do. Everything stays as it was. */
export class PlanInfeasible extends BlockscaleError {
  readonly plan: Plan

  constructor(plan: Plan) {
    super(
      'PLAN_INFEASIBLE',
      `no plan fits: ${plan.infeasible ? describe(plan.infeasible) : 'the limits exclude each other'}`,
    )
    this.name = 'PlanInfeasible'
    this.plan = plan
  }
}

function describe({ constraint, model, needs, has, maxRate, also = [] }: Infeasible): string {
  const value = (amount: number) => {
    if (constraint === 'memory') return formatBytes(amount)
    if (constraint.startsWith('latency')) return `${amount.toFixed(2)} ms`
    return String(Number(amount.toPrecision(4)))
  }
  const verb = constraint.startsWith('quality') ? 'at most' : 'at least'
  const whose = model === undefined ? constraint : `the ${constraint} of ${model}`
  const rate = maxRate === undefined ? '' : ` (or its rate at most ${Number(maxRate.toPrecision(4))})`
  const others = also.map((other) => `; ${describe(other)}`).join('')
  return `${whose} has to be ${verb} ${value(needs)}${rate}, and ${value(has)} is asked for${others}`
}

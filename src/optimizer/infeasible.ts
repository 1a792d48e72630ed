import { pickedOf } from './answer.ts'
import { compile, type Goal, type Program, UTILISATION } from './compile.ts'
import { fromSteps } from './exact.ts'
import type { Infeasible, Problem, ProblemModel } from './problem.ts'
import type { SearchResult } from './search.ts'

type Minimise = (program: Program) => SearchResult

/** A limit of a problem that could be relaxed. */
type Limit =
  | { readonly kind: 'memory' }
  | { readonly kind: 'cores' }
  | { readonly kind: 'latency'; readonly model: ProblemModel }
  | { readonly kind: 'quality'; readonly model: ProblemModel }

/**
 * Says which limit to relax when no plan fits, and to what value.
 *
 * For each limit the least value is sought that does while the others hold; the one with the least relative change is named.
 */
export function explain(problem: Problem, minimise: Minimise): Infeasible {
  const answers = limitsOf(problem)
    .map((limit) => least(problem, limit, minimise))
    .filter((answer) => answer !== undefined)
  answers.sort((a, b) => change(a) - change(b))
  return answers[0] ?? together(problem, minimise)
}

const change = ({ needs, has }: Infeasible): number => Math.abs(needs - has) / Math.max(Math.abs(has), 1e-9)

function limitsOf(problem: Problem): Limit[] {
  const limits: Limit[] = []
  if (problem.memoryBytes !== undefined) limits.push({ kind: 'memory' })
  if (problem.cores !== undefined) limits.push({ kind: 'cores' })
  for (const model of problem.models) {
    if (model.maxLatencyMs !== undefined) limits.push({ kind: 'latency', model })
    if (model.minQuality !== undefined) limits.push({ kind: 'quality', model })
  }
  return limits
}

function without(problem: Problem, limit: Limit): Problem {
  switch (limit.kind) {
    case 'memory':
      return { ...problem, memoryBytes: undefined }
    case 'cores':
      return { ...problem, cores: undefined }
    case 'latency':
      return withModel(problem, { ...limit.model, maxLatencyMs: undefined })
    case 'quality':
      return withModel(problem, { ...limit.model, minQuality: undefined })
  }
}

const withModel = (problem: Problem, changed: ProblemModel): Problem => ({
  ...problem,
  models: problem.models.map((model) => (model.id === changed.id ? changed : model)),
})

/** The least value of one limit with which the others hold; undefined when no value does. */
function least(problem: Problem, limit: Limit, minimise: Minimise): Infeasible | undefined {
  const relaxed = without(problem, limit)
  if (limit.kind === 'cores') return leastCores(problem, minimise)
  const goal: Goal =
    limit.kind === 'memory'
      ? { kind: 'memory' }
      : { kind: limit.kind === 'latency' ? 'latencyOf' : 'lossOf', model: limit.model.id }
  const program = compile({ ...relaxed, swapWeight: 0 }, goal)
  const { found } = minimise(program)
  if (!found) return undefined
  const sum = (m: number, column: 'latency' | 'memory' | 'loss') => found.configs[m]![column]
  if (limit.kind === 'memory') {
    const steps = program.models.reduce((total, _, m) => total + sum(m, 'memory'), 0)
    return { constraint: 'memory', needs: fromSteps(program.memory, steps), has: problem.memoryBytes! }
  }
  const m = program.models.findIndex((model) => model.id === limit.model.id)
  const { id, quality, maxLatencyMs, minQuality } = limit.model
  return limit.kind === 'latency'
    ? { constraint: 'latency', model: id, needs: fromSteps(program.latency, sum(m, 'latency')), has: maxLatencyMs! }
    : {
        constraint: 'quality',
        model: id,
        needs: Number((quality - fromSteps(program.loss, sum(m, 'loss'))).toPrecision(14)),
        has: minQuality!,
      }
}

/** The least number of cores; the last one may be a part of a core. */
function leastCores(problem: Problem, minimise: Minimise): Infeasible | undefined {
  const has = problem.cores!
  const share = problem.utilisation ?? UTILISATION
  const fits = (cores: number): number | undefined => {
    const program = compile({ ...problem, cores, swapWeight: 0 }, { kind: 'cpu' })
    const { found } = minimise(program)
    if (!found) return undefined
    const last = Math.ceil(cores) - 1
    const load = program.models.reduce(
      (sum, model, m) => (found.cores![m] === last ? sum + found.configs[m]!.latency * model.loadRate : sum),
      0,
    )
    return last + load / (share * program.loadOfCore)
  }
  let whole = Math.floor(has) + 1
  let high = fits(whole)
  while (high === undefined && whole < problem.models.length) high = fits(++whole)
  if (high === undefined) return undefined
  let low = Math.max(has, whole - 1)
  for (let round = 0; round < 60 && high - low > 1e-12 * high; round++) {
    const middle = (low + high) / 2
    const better = fits(middle)
    if (better === undefined) low = middle
    else high = Math.min(better, middle)
  }
  return { constraint: 'cores', needs: high, has }
}

/** When relaxing one limit is not enough: each model's own limits first, then the rest with those relaxed. */
function together(problem: Problem, minimise: Minimise): Infeasible {
  let relaxed = problem
  const needed: Infeasible[] = []
  for (const limit of limitsOf(problem).reverse()) {
    const next = without(relaxed, limit)
    const { found } = minimise(compile(next))
    relaxed = next
    const answer = found && least(problem, limit, minimise)
    if (answer) needed.push(answer)
    if (found) break
  }
  return needed[0] ?? { constraint: 'memory', needs: pickedOf.length, has: problem.memoryBytes ?? 0 }
}

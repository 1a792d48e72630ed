import { BlockscaleError } from '../base/index.ts'
import { compile, type Goal, type Program, UTILISATION } from './compile.ts'
import { fromSteps } from './exact.ts'
import { leastCores } from './least-cores.ts'
import { type Config, price } from './price.ts'
import type { Infeasible, Problem, ProblemModel } from './problem.ts'
import type { Search } from './search.ts'

/** Why no plan fits, and the problem with just those limits relaxed, which has one. */
export interface Explanation {
  readonly infeasible: Infeasible
  readonly relaxed: Problem
}

/** A limit that could be relaxed. */
type Limit =
  | { readonly kind: 'memory' }
  | { readonly kind: 'cores' }
  | { readonly kind: 'latency'; readonly model: string }
  | { readonly kind: 'quality'; readonly model: string }
  | { readonly kind: 'rate'; readonly model: string }

/** Up to so many models, each model's own limits are tried too when it is all limits together that cannot hold. */
const TRIED_MODELS = 8

/**
 * Says which limit to relax when no plan fits, and to what value.
 *
 * For each limit that may be at fault, the least value is sought with which the others hold; the limit with the least relative
 * change is named. When no single limit will do, those that must go together are named, each with the ones before it relaxed.
 */
export function explain(problem: Problem, search: Search): Explanation {
  const atFault = problem.models.filter((model) => !fitsAlone(problem, model))
  if (atFault.length <= 1) {
    const suspects = atFault[0] ? ownLimits(problem, atFault[0]) : sharedLimits(problem, TRIED_MODELS)
    const answer = cheapest(problem, suspects, search)
    const relaxed = answer && relax(problem, answer)
    // A lower rate makes room for the model alone; the cores may still be too few for all.
    const isEnough = relaxed && (answer.maxRate === undefined || search(compile(relaxed), Number.MAX_VALUE).found)
    if (isEnough) return { infeasible: answer, relaxed }
  }
  return together(problem, atFault, search)
}

function together(problem: Problem, atFault: readonly ProblemModel[], search: Search): Explanation {
  const needed: Infeasible[] = []
  let relaxed = problem
  const settle = (answer: Infeasible) => {
    const before = needed.findIndex(
      ({ constraint, model }) => constraint === answer.constraint && model === answer.model,
    )
    if (before < 0) needed.push(answer)
    else needed[before] = { ...answer, has: needed[before]!.has }
    relaxed = relax(relaxed, answer)
  }
  for (const model of atFault) aloneNeeds(relaxed, model, search).forEach(settle)
  // Each model fits by itself now; what they share may still be too little, at most in both memory and cores.
  for (let round = 0; round < 2 && !search(compile(relaxed), Number.MAX_VALUE).found; round++) {
    const single = cheapest(relaxed, sharedLimits(relaxed, 0), search)
    // Neither alone will do: memory first, as if there were cores enough, then the cores.
    const answer = single ?? least(withPlentyOfCores(relaxed), { kind: 'memory' }, search)
    if (answer) settle(answer)
  }
  const [first, ...also] = needed.sort((a, b) => change(b) - change(a))
  if (!first) throw new BlockscaleError('INTERNAL', 'a problem without a plan has no limit that could be relaxed')
  return { infeasible: also.length > 0 ? { ...first, also } : first, relaxed }
}

/** With a core for every model; where all work may be spread over all cores, a model can need several, and no number is too high. */
function withPlentyOfCores(problem: Problem): Problem {
  if (problem.cores === undefined) return problem
  return { ...problem, cores: problem.placement === 'shared' ? undefined : problem.cores + problem.models.length }
}

/** What one model needs by itself: one of its own limits relaxed where that is enough, otherwise the first and what is left. */
function aloneNeeds(problem: Problem, model: ProblemModel, search: Search): Infeasible[] {
  let single: Problem = { ...problem, memoryBytes: undefined, models: [model] }
  const needs: Infeasible[] = []
  for (let round = 0; round < 8; round++) {
    const [current] = single.models
    if (!current || fitsAlone(single, current)) break
    const limits = ownLimits(single, current)
    const answer = cheapest(single, limits, search) ?? firstBroken(single, current, limits, search)
    if (!answer) break
    needs.push(answer)
    single = relax(single, answer)
  }
  return needs
}

/** The first limit that a model cannot keep even when its others are put aside. */
function firstBroken(problem: Problem, model: ProblemModel, limits: readonly Limit[], search: Search) {
  for (const limit of limits) {
    const only = withModel(problem, {
      ...model,
      maxLatencyMs: limit.kind === 'latency' ? model.maxLatencyMs : undefined,
      minQuality: limit.kind === 'quality' ? model.minQuality : undefined,
      rate: limit.kind === 'rate' || limit.kind === 'cores' ? model.rate : undefined,
    })
    if (!fitsAlone(only, only.models[0]!)) return least(only, limit, search)
  }
  return undefined
}

const change = ({ needs, has }: Infeasible): number => Math.abs(needs - has) / Math.max(Math.abs(has), 1e-9)

function cheapest(problem: Problem, limits: readonly Limit[], search: Search): Infeasible | undefined {
  let best: Infeasible | undefined
  for (const limit of limits) {
    const answer = least(problem, limit, search)
    if (answer && (!best || change(answer) < change(best))) best = answer
  }
  return best
}

function ownLimits(problem: Problem, model: ProblemModel): Limit[] {
  const limits: Limit[] = []
  if (model.maxLatencyMs !== undefined) limits.push({ kind: 'latency', model: model.id })
  if (model.minQuality !== undefined) limits.push({ kind: 'quality', model: model.id })
  if (problem.cores !== undefined && model.rate) {
    limits.push(problem.placement === 'shared' ? { kind: 'cores' } : { kind: 'rate', model: model.id })
  }
  return limits
}

function sharedLimits(problem: Problem, models: number): Limit[] {
  const limits: Limit[] = []
  if (problem.memoryBytes !== undefined) limits.push({ kind: 'memory' })
  if (problem.cores !== undefined) limits.push({ kind: 'cores' })
  if (problem.models.length > models) return limits
  const own = problem.models.flatMap((model) => ownLimits(problem, model))
  return [...limits, ...own.filter(({ kind }) => kind !== 'rate' && kind !== 'cores')]
}

/** Whether a model can keep its own limits, and one core its rate, with all memory to itself. */
function fitsAlone(problem: Problem, model: ProblemModel): boolean {
  const program = compile({ ...problem, memoryBytes: undefined, models: [model] })
  return price(program.models[0]!, { cost: 0, memory: 0, latency: 1 }, true) !== undefined
}

const modelOf = (problem: Problem, id: string): ProblemModel => problem.models.find((model) => model.id === id)!

const withModel = (problem: Problem, changed: ProblemModel): Problem => ({
  ...problem,
  models: problem.models.map((model) => (model.id === changed.id ? changed : model)),
})

/** The problem with a limit at the value that an answer says it needs. */
function relax(problem: Problem, { constraint, model: id, needs, maxRate }: Infeasible): Problem {
  const model = problem.models.find((one) => one.id === id)
  if (constraint === 'memory') return { ...problem, memoryBytes: needs }
  if (!model) return { ...problem, cores: needs }
  if (constraint === 'latency') return withModel(problem, { ...model, maxLatencyMs: needs })
  if (constraint === 'quality') return withModel(problem, { ...model, minQuality: needs })
  return withModel(problem, { ...model, rate: maxRate })
}

/** The least value of one limit with which the others hold; undefined when no value does. */
function least(problem: Problem, limit: Limit, search: Search): Infeasible | undefined {
  switch (limit.kind) {
    case 'memory': {
      const found = leastOf({ ...problem, memoryBytes: undefined }, { kind: 'memory' }, search)
      if (!found) return undefined
      const steps = found.configs.reduce((sum, config) => sum + config.memory, 0)
      return {
        constraint: 'memory',
        needs: fromSteps(found.program.memory, steps),
        has: problem.memoryBytes!,
        ...found.proof,
      }
    }
    case 'cores':
      return leastCores(problem, search)
    case 'latency': {
      const model = modelOf(problem, limit.model)
      const { id, maxLatencyMs } = model
      const needs = leastLatency(withModel(problem, { ...model, maxLatencyMs: undefined }), id, search)
      return needs && { constraint: 'latency', model: id, needs: needs.ms, has: maxLatencyMs!, ...needs.proof }
    }
    case 'quality': {
      const model = modelOf(problem, limit.model)
      const { id, minQuality, quality } = model
      const relaxed = withModel(problem, { ...model, minQuality: undefined })
      const found = leastOf(relaxed, { kind: 'lossOf', model: id }, search)
      if (!found) return undefined
      const loss = fromSteps(found.program.loss, found.configOf(id).loss)
      return { constraint: 'quality', model: id, needs: tidy(quality - loss), has: minQuality!, ...found.proof }
    }
    case 'rate':
      return ownRate(problem, modelOf(problem, limit.model), search)
  }
}

/**
 * A model that is too much for one core at its rate. More cores than one do not help it, for a model runs on one core: what it
 * needs is given in cores, and beside it the rate that would do.
 */
function ownRate(problem: Problem, model: ProblemModel, search: Search): Infeasible | undefined {
  const needs = leastLatency(withModel(problem, { ...model, rate: 0 }), model.id, search)
  if (!needs) return undefined
  const share = problem.utilisation ?? UTILISATION
  const cores = (model.rate! * needs.ms) / 1000 / share
  const has = Math.min(1, problem.cores!)
  if (cores <= 1) return leastCores(problem, search)
  // Nine digits, rounded down, so that the rate itself fits.
  const maxRate = Math.floor((1e9 * share * has) / needs.ms) / 1e6
  return { constraint: 'cores', model: model.id, needs: tidy(cores), has, maxRate, ...needs.proof }
}

function leastLatency(problem: Problem, id: string, search: Search) {
  const found = leastOf(problem, { kind: 'latencyOf', model: id }, search)
  return found && { ms: fromSteps(found.program.latency, found.configOf(id).latency), proof: found.proof }
}

function leastOf(problem: Problem, goal: Goal, search: Search) {
  const program = compile({ ...problem, swapWeight: 0, swapWeightPerMB: 0 }, goal)
  const { found } = search(program)
  if (!found) return undefined
  const { configs, cost, lower } = found
  const isLeast = cost - lower <= 1e-9 * Math.abs(cost)
  return { program, configs, configOf: configOf(program, configs), proof: isLeast ? {} : { proven: false } }
}

const configOf =
  (program: Program, configs: readonly Config[]) =>
  (id: string): Config =>
    configs[program.models.findIndex((model) => model.id === id)]!

const tidy = (value: number): number => Number(value.toPrecision(14))

import type { Plan, Problem, ProblemBlock, ProblemChoice, ProblemModel } from '../../src/optimizer/index.ts'

/** Everything that a plan is judged by, counted in whole steps; values in these tests have at most three decimals. */
export interface Counted {
  readonly objective: number
  readonly latencyMs: readonly number[]
  readonly quality: readonly number[]
  readonly loads: readonly number[]
  readonly memoryBytes: number
}

interface Way {
  readonly loss: number
  readonly latencyMs: number
  readonly memoryBytes: number
  readonly swapMs: number
}

const milli = (value: number): number => Math.round(value * 1000) / 1000
const micro = (value: number): number => Math.round(value * 1e6) / 1e6

/** Every configuration of a model. */
function ways(model: ProblemModel): Way[] {
  const all: Way[] = []
  for (const { blocks } of model.variants ?? [{ blocks: model.blocks ?? [] }]) {
    let own: Way[] = [{ loss: 0, latencyMs: 0, memoryBytes: 0, swapMs: 0 }]
    for (const block of blocks) own = own.flatMap((way) => block.choices.map((choice) => extended(way, block, choice)))
    all.push(...own)
  }
  return all
}

const extended = (way: Way, block: ProblemBlock, choice: ProblemChoice): Way => ({
  loss: milli(way.loss + choice.loss),
  latencyMs: milli(way.latencyMs + choice.latencyMs),
  memoryBytes: way.memoryBytes + choice.memoryBytes,
  swapMs: way.swapMs + (block.current !== undefined && block.current !== choice.id ? (choice.swapMs ?? 0) : 0),
})

/** Room of each core, as the problem file defines it; shared cores are as one. */
export function coreRoom(problem: Problem): number[] {
  const cores = problem.cores ?? 0
  if (problem.placement === 'shared' && problem.cores !== undefined) return [cores * (problem.utilisation ?? 0.9)]
  const whole = Math.floor(cores)
  const parts = Array.from({ length: whole }, () => 1)
  if (cores > whole) parts.push(cores - whole)
  return parts.map((part) => part * (problem.utilisation ?? 0.9))
}

/** The least objective over every combination and every placement; undefined when none keeps the limits. */
export function exhaustive(problem: Problem): number | undefined {
  const room = problem.cores === undefined ? undefined : coreRoom(problem)
  const all = problem.models.map(ways)
  const swapWeight = problem.swapWeight ?? ((problem.objective ?? 'quality') === 'quality' ? 1e-4 : 0)
  let best: number | undefined
  const visit = (m: number, memory: number, objective: number, loads: number[]) => {
    if (m === problem.models.length) {
      if (problem.memoryBytes !== undefined && memory > problem.memoryBytes) return
      if (best === undefined || objective < best) best = objective
      return
    }
    const model = problem.models[m]!
    for (const way of all[m]!) {
      if (model.maxLatencyMs !== undefined && way.latencyMs > model.maxLatencyMs) continue
      if (model.minQuality !== undefined && micro(model.quality - way.loss) < model.minQuality) continue
      const own = {
        quality: (model.weight ?? 1) * way.loss,
        latency: way.latencyMs,
        memory: way.memoryBytes,
        cpu: ((model.rate ?? 0) * way.latencyMs) / 1000,
      }[problem.objective ?? 'quality']
      const cost = objective + own + swapWeight * way.swapMs
      const load = ((model.rate ?? 0) * way.latencyMs) / 1000
      if (!room || load === 0) {
        if (room?.length === 0 && load > 0) continue
        visit(m + 1, memory + way.memoryBytes, cost, loads)
        continue
      }
      room.forEach((limit, core) => {
        if (loads[core]! + load > limit + 1e-9) return
        visit(m + 1, memory + way.memoryBytes, cost, loads.with(core, loads[core]! + load))
      })
    }
  }
  visit(0, 0, 0, room?.map(() => 0) ?? [])
  return best
}

/** Counts a plan's figures again from the problem, and says which limit it breaks; empty when it keeps all. */
export function broken(problem: Problem, plan: Plan): string[] {
  const found: string[] = []
  const room = coreRoom(problem)
  const loads = room.map(() => 0)
  let memory = 0
  let objective = 0
  const swapWeight = problem.swapWeight ?? ((problem.objective ?? 'quality') === 'quality' ? 1e-4 : 0)
  problem.models.forEach((model, m) => {
    const planned = plan.models[m]!
    if (planned.model !== model.id) found.push(`models[${m}] is ${planned.model}`)
    const blocks = model.variants?.find(({ id }) => id === planned.variant)?.blocks ?? model.blocks ?? []
    if (planned.choices.length !== blocks.length)
      found.push(`${model.id}: choices for ${planned.choices.length} blocks`)
    let way: Way = { loss: 0, latencyMs: 0, memoryBytes: 0, swapMs: 0 }
    blocks.forEach((block, b) => {
      if (planned.choices[b]?.block !== block.id) found.push(`${model.id}: block ${b} is ${planned.choices[b]?.block}`)
      const choice = block.choices.find(({ id }) => id === planned.choices[b]?.descendant)
      if (!choice) found.push(`${model.id}.${block.id}: unknown choice`)
      else way = extended(way, block, choice)
    })
    if (way.latencyMs > (model.maxLatencyMs ?? Number.POSITIVE_INFINITY)) found.push(`latency of ${model.id}`)
    if (micro(model.quality - way.loss) < (model.minQuality ?? Number.NEGATIVE_INFINITY))
      found.push(`quality of ${model.id}`)
    if (Math.abs(planned.predicted.latencyMs - way.latencyMs) > 1e-9) found.push(`predicted latency of ${model.id}`)
    if (Math.abs(planned.predicted.quality - (model.quality - way.loss)) > 1e-9)
      found.push(`predicted quality of ${model.id}`)
    if (planned.predicted.memoryBytes !== way.memoryBytes) found.push(`predicted memory of ${model.id}`)
    memory += way.memoryBytes
    const load = ((model.rate ?? 0) * way.latencyMs) / 1000
    if (problem.cores !== undefined && room.length > 0) {
      if (problem.placement === 'shared') loads[0]! += load
      else if (planned.core === undefined || planned.core < 0 || planned.core >= room.length)
        found.push(`core of ${model.id}`)
      else loads[planned.core]! += load
    }
    objective +=
      { quality: (model.weight ?? 1) * way.loss, latency: way.latencyMs, memory: way.memoryBytes, cpu: load }[
        problem.objective ?? 'quality'
      ] +
      swapWeight * way.swapMs
  })
  if (memory > (problem.memoryBytes ?? Number.POSITIVE_INFINITY)) found.push('memory')
  if (plan.totals?.memoryBytes !== memory) found.push('total memory')
  loads.forEach((load, core) => {
    if (load > room[core]! + 1e-9) found.push(`core ${core}`)
  })
  if (Math.abs((plan.objective ?? Number.NaN) - objective) > 1e-9 * Math.max(1, Math.abs(objective))) {
    found.push(`objective ${plan.objective} is ${objective}`)
  }
  return found
}

import type { Plan, Problem, ProblemBlock, ProblemChoice, ProblemModel } from '../../src/optimizer/index.ts'

/** Everything that a plan is judged by, counted in whole steps; values in these tests have at most six decimals. */
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
  readonly swapBytes: number
}

const tidy = (value: number): number => Math.round(value * 1e9) / 1e9

/** Every configuration of a model. */
function ways(model: ProblemModel): Way[] {
  const all: Way[] = []
  for (const { blocks } of model.variants ?? [{ blocks: model.blocks ?? [] }]) {
    let own: Way[] = [{ loss: 0, latencyMs: 0, memoryBytes: 0, swapMs: 0, swapBytes: 0 }]
    for (const block of blocks)
      own = own.flatMap((way) => block.choices.map((choice) => extended(way, model, block, choice)))
    all.push(...own)
  }
  return all
}

/** A variant of which nothing is in place, while something of another one is, is loaded whole. */
function isLoaded({ variants }: ProblemModel, block: ProblemBlock, choice: ProblemChoice): boolean {
  if (block.current !== undefined) return block.current !== choice.id
  const own = variants?.find(({ blocks }) => blocks.includes(block))
  const isPlaced = (blocks: readonly ProblemBlock[]) => blocks.some(({ current }) => current !== undefined)
  return own !== undefined && !isPlaced(own.blocks) && variants!.some(({ blocks }) => isPlaced(blocks))
}

/** What a plan pays for what it loads. */
const swapCost = ({ swapWeight, swapWeightPerMB = 0, objective }: Problem, way: Way): number =>
  (swapWeight ?? ((objective ?? 'quality') === 'quality' ? 1e-4 : 0)) * way.swapMs +
  (swapWeightPerMB * way.swapBytes) / 1e6

const extended = (way: Way, model: ProblemModel, block: ProblemBlock, choice: ProblemChoice): Way => ({
  loss: tidy(way.loss + choice.loss),
  latencyMs: tidy(way.latencyMs + choice.latencyMs),
  memoryBytes: way.memoryBytes + choice.memoryBytes,
  swapMs: way.swapMs + (isLoaded(model, block, choice) ? (choice.swapMs ?? 0) : 0),
  swapBytes: way.swapBytes + (isLoaded(model, block, choice) ? choice.memoryBytes : 0),
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
      if (model.minQuality !== undefined && tidy(model.quality - way.loss) < model.minQuality) continue
      const own = {
        quality: (model.weight ?? 1) * way.loss,
        latency: way.latencyMs,
        memory: way.memoryBytes,
        cpu: ((model.rate ?? 0) * way.latencyMs) / 1000,
      }[problem.objective ?? 'quality']
      const cost = objective + own + swapCost(problem, way)
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
  problem.models.forEach((model, m) => {
    const planned = plan.models[m]!
    if (planned.model !== model.id) found.push(`models[${m}] is ${planned.model}`)
    const blocks = model.variants?.find(({ id }) => id === planned.variant)?.blocks ?? model.blocks ?? []
    if (planned.choices.length !== blocks.length)
      found.push(`${model.id}: choices for ${planned.choices.length} blocks`)
    let way: Way = { loss: 0, latencyMs: 0, memoryBytes: 0, swapMs: 0, swapBytes: 0 }
    blocks.forEach((block, b) => {
      if (planned.choices[b]?.block !== block.id) found.push(`${model.id}: block ${b} is ${planned.choices[b]?.block}`)
      const choice = block.choices.find(({ id }) => id === planned.choices[b]?.descendant)
      if (!choice) found.push(`${model.id}.${block.id}: unknown choice`)
      else way = extended(way, model, block, choice)
    })
    if (way.latencyMs > tidy(model.maxLatencyMs ?? 1e6)) found.push(`latency of ${model.id}`)
    if (tidy(model.quality - way.loss) < (model.minQuality ?? Number.NEGATIVE_INFINITY))
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
      ] + swapCost(problem, way)
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

/** Loss and cost of every plan that no other beats in both, the cheapest first; cores count as one. */
export function exhaustiveFrontier(problem: Problem, axis: 'latency' | 'memory' | 'cpu'): [number, number][] {
  const room = coreRoom({ ...problem, placement: 'shared' })[0] ?? Number.POSITIVE_INFINITY
  const largest = problem.cores === undefined ? room : Math.max(0, ...coreRoom(problem))
  let sums = [{ loss: 0, latency: 0, memory: 0, cpu: 0 }]
  for (const model of problem.models) {
    const fitting = ways(model).filter(
      (way) =>
        way.latencyMs <= (model.maxLatencyMs ?? Number.POSITIVE_INFINITY) &&
        tidy(model.quality - way.loss) >= (model.minQuality ?? Number.NEGATIVE_INFINITY) &&
        ((model.rate ?? 0) * way.latencyMs) / 1000 <= largest + 1e-9,
    )
    sums = sums.flatMap((sum) =>
      fitting.map((way) => ({
        loss: sum.loss + (model.weight ?? 1) * way.loss,
        latency: tidy(sum.latency + way.latencyMs),
        memory: sum.memory + way.memoryBytes,
        cpu: sum.cpu + ((model.rate ?? 0) * way.latencyMs) / 1000,
      })),
    )
  }
  const best: [number, number][] = []
  const within = sums.filter(
    ({ memory, cpu }) => memory <= (problem.memoryBytes ?? Number.POSITIVE_INFINITY) && cpu <= room + 1e-9,
  )
  for (const sum of within.sort((a, b) => (Math.abs(a[axis] - b[axis]) > 1e-9 ? a[axis] - b[axis] : a.loss - b.loss))) {
    if (best.length === 0 || sum.loss < best.at(-1)![0] - 1e-12) best.push([sum.loss, sum[axis]])
  }
  return best
}

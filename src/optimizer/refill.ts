import { seededRandom, shuffled } from '../base/index.ts'
import { explore } from './choose.ts'
import { enumerate } from './enumerate.ts'
import type { Config } from './price.ts'
import { addUse, pricesFor, useOf } from './rows.ts'
import type { Standing } from './standing.ts'

/** Models set free at once, configurations listed of each, and combinations kept. */
const FREE = 8
const LISTED = 60
const KEPT = 600
const ROUNDS = 6
/** Rows are filled this well when the rest of the gap is not worth looking for, as a share of the cost. */
const GOOD = 1e-6

/**
 * Sets a few models free and chooses them anew, so that together they use up exactly what the others leave.
 *
 * The others stay at what the master mixes, which costs nothing beyond the bound. A few models with some tens of near-optimal
 * configurations make millions of combinations: one of them fills the rows almost without waste.
 */
export function refill(standing: Standing): void {
  const { program, mixed } = standing
  if (program.models.length <= FREE || !mixed) return
  const random = seededRandom(program.models.length)
  const models = program.models.map((_, m) => m)
  const split = models.filter((m) => mixed.isSplit[m])
  const whole = models.filter((m) => !mixed.isSplit[m])
  for (let round = 0; round < ROUNDS; round++) {
    if (standing.gap() <= GOOD * Math.abs(standing.cost)) return
    const base = round % 2 === 0 || !standing.best ? mixed.rounded : standing.best
    const free = [...split, ...shuffled(whole, random)].slice(0, FREE)
    const configs = chooseAnew(standing, base, free)
    if (configs) standing.offer(configs)
  }
}

function chooseAnew(standing: Standing, base: readonly Config[], free: readonly number[]): Config[] | undefined {
  const { program, rows, duals, root, leastReduced } = standing
  const limits = useOf(rows, program, base).map((used, r) => rows.limits[r]! - used)
  for (const m of free) addUse(rows, program, m, base[m]!, limits)
  const gap = Math.min(standing.gap(root), 2e-3 * Math.abs(root) + 1e-9)
  const room = (m: number) => ({
    memory: rows.memory >= 0 ? limits[rows.memory]! : Number.POSITIVE_INFINITY,
    latency: Number.POSITIVE_INFINITY,
    memoryMatters: rows.memory >= 0,
    latencyMatters: rows.loads[m]!.length > 0,
  })
  const lists = free.map(
    (m) =>
      enumerate(
        program.models[m]!,
        pricesFor(rows, program.models[m]!, m, duals),
        leastReduced[m]! + gap,
        room(m),
        LISTED,
      ).configs,
  )
  const start = new Int32Array(lists.length + 1)
  lists.forEach((configs, g) => {
    start[g + 1] = start[g]! + configs.length
  })
  const all = lists.flat()
  const uses = lists.flatMap((configs, g) => configs.map((config) => standing.useOfOne(free[g]!, config)))
  const explored = explore(
    {
      start,
      key: Float64Array.from(all, (config) => config.cost),
      dims: rows.limits.map((_, r) => Float64Array.from(uses, (use) => use[r]!)),
      limits: [...limits],
    },
    { price: [...duals], waste: [...duals], gap, cap: KEPT },
  )
  if (explored.keys.length === 0) return undefined
  const picks = explored.picks(0)
  const configs = [...base]
  free.forEach((m, g) => {
    configs[m] = all[picks[g]!]!
  })
  return configs
}

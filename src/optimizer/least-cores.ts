import { compile, UTILISATION } from './compile.ts'
import type { Infeasible, Problem } from './problem.ts'
import type { Search } from './search.ts'

/** Values nearer than this are one: what two plans load can differ by less only through rounding. */
const SAME = 1e-9
const ROUNDS = 60

/**
 * The least number of cores with which the other limits can hold; the last core may be a part of one.
 *
 * More cores never hurt, so it is a bisection between what all models together load at least and what a plan is known to load.
 * Each plan that is found says itself how much of the last core it needs. Undefined when no number of cores will do.
 */
export function leastCores(problem: Problem, search: Search): Infeasible | undefined {
  const has = problem.cores!
  const together = leastLoad(problem, search)
  if (!together) return undefined
  const answer = (needs: number, proven: boolean): Infeasible => ({
    constraint: 'cores',
    needs: rounded(problem, needs, search),
    has,
    ...(proven ? {} : { proven: false }),
  })
  if (problem.placement === 'shared') return answer(together.cores, together.exact)
  let low = Math.max(has, together.cores * (1 - SAME))
  const exact = together.cores > has ? coresUsed(problem, together.cores, search) : undefined
  if (exact !== undefined) return answer(exact, together.exact)
  let whole = Math.floor(low) + 1
  let high = coresUsed(problem, whole, search)
  while (high === undefined && whole < problem.models.length) high = coresUsed(problem, ++whole, search)
  if (high === undefined) return undefined
  low = Math.max(low, whole - 1)
  for (let round = 0; round < ROUNDS; round++) {
    if (high - low <= SAME * high) return answer(high, true)
    // Every other time just below the best: mostly there is nothing, and that ends the search at once.
    const probe = round % 2 === 0 ? Math.max((low + high) / 2, high * (1 - SAME)) : (low + high) / 2
    const better = coresUsed(problem, probe, search)
    if (better === undefined) low = probe
    else high = Math.min(better, probe)
  }
  return answer(high, false)
}

/** A number of cores that was computed, so much larger that it holds in whole steps too: the value that is named has to do. */
function rounded(problem: Problem, cores: number, search: Search): number {
  const holds = (value: number) =>
    search(compile({ ...problem, cores: value, swapWeight: 0, swapWeightPerMB: 0 }, { kind: 'cpu' }), Number.MAX_VALUE)
      .found !== undefined
  for (const part of [0, 1e-15, 1e-13, 1e-11, SAME]) if (holds(cores * (1 + part))) return cores * (1 + part)
  return cores
}

/** What all models together load at least, in cores, if work could be split as one likes. */
function leastLoad(problem: Problem, search: Search): { readonly cores: number; readonly exact: boolean } | undefined {
  const program = compile({ ...problem, cores: undefined, swapWeight: 0, swapWeightPerMB: 0 }, { kind: 'cpu' })
  const { found } = search(program)
  if (!found) return undefined
  const load = program.models.reduce(
    (sum, model, m) => sum + (problem.models[model.index]!.rate ?? 0) * found.configs[m]!.latency,
    0,
  )
  return {
    cores: load / (1000 * program.latency.factor * (problem.utilisation ?? UTILISATION)),
    exact: found.cost - found.lower <= SAME * found.cost,
  }
}

/** How many cores a plan on at most `cores` needs; undefined when there is none. */
function coresUsed(problem: Problem, cores: number, search: Search): number | undefined {
  const program = compile({ ...problem, cores, swapWeight: 0, swapWeightPerMB: 0 }, { kind: 'cpu' })
  const { found } = search(program, Number.MAX_VALUE)
  if (!found) return undefined
  const last = Math.ceil(cores) - 1
  const loads = new Float64Array(last + 1)
  program.models.forEach((model, m) => {
    loads[found.cores![m]!]! += found.configs[m]!.latency * model.loadRate
  })
  const share = (problem.utilisation ?? UTILISATION) * program.loadOfCore
  // Cores of equal size: the least loaded one may as well be the last.
  const least = Number.isInteger(cores) ? Math.min(...loads) : loads[last]!
  return Math.min(cores, last + least / share)
}

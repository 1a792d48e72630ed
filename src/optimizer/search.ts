import type { Program } from './compile.ts'
import { type DecomposeOptions, decompose, type Outcome } from './decompose.ts'
import { place } from './place.ts'
import type { Config } from './price.ts'
import { sharedRows } from './rows.ts'

export interface Found {
  readonly configs: readonly Config[]
  /** core of each model, in the order of the program; undefined when the problem names no cores, or shares them */
  readonly cores: readonly number[] | undefined
  readonly cost: number
  /** no plan costs less than this */
  readonly lower: number
}

export interface SearchResult {
  readonly found: Found | undefined
  /** whether "nothing found" is proven */
  readonly proven: boolean
  /** what the solve without places learnt */
  readonly outcome: Outcome
}

/** Solves a program; with a `target`, any plan that costs no more will do. */
export type Search = (program: Program, target?: number) => SearchResult

/**
 * The cheapest plan whose models can be placed on the cores, each model on one core.
 *
 * First without places: all cores count as one. Mostly the models of that plan can be placed, and it is the answer.
 */
export function search(program: Program, options: DecomposeOptions): SearchResult {
  const outcome = decompose(program, sharedRows(program), options)
  const { configs, cost, lower } = outcome
  if (!configs) return { found: undefined, proven: lower === Number.POSITIVE_INFINITY, outcome }
  if (!program.coreLimits || program.problem.placement === 'shared')
    return { found: { configs, cores: undefined, cost, lower }, proven: true, outcome }
  const placed = place(program, program.coreLimits, options, outcome)
  if (!placed.best) return { found: undefined, proven: placed.lower === Number.POSITIVE_INFINITY, outcome }
  return { found: { ...placed.best, lower: placed.lower }, proven: true, outcome }
}

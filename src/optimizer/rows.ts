import type { ModelProgram, Program } from './compile.ts'
import type { Config } from './price.ts'

/**
 * The limits that models share: memory, and the load of the cores, either of all cores together or of each core by itself.
 */
export interface Rows {
  readonly limits: readonly number[]
  /** position of the memory row, -1 without */
  readonly memory: number
  /** positions of the load rows that each model takes part in */
  readonly loads: readonly (readonly number[])[]
  /** when every model is bound to a core: the row of each core */
  readonly cores?: readonly number[] | undefined
}

/** Memory, and one row for all cores together: what a plan must keep whatever core each model runs on. */
export function sharedRows(program: Program): Rows {
  const limits: number[] = []
  const memory = program.memoryLimit < Number.POSITIVE_INFINITY ? limits.push(program.memoryLimit) - 1 : -1
  const room = program.coreLimits?.reduce((sum, limit) => sum + limit, 0)
  const load = room === undefined ? [] : [limits.push(room) - 1]
  return { limits, memory, loads: program.models.map((model) => (model.loadRate > 0 ? load : [])) }
}

/** Memory, one row for all cores together, and one for each core with the models that are bound to it (-1: not yet bound). */
export function placedRows(program: Program, cores: readonly number[]): Rows {
  const shared = sharedRows(program)
  const limits = [...shared.limits]
  // When every model is bound, the rows of the cores say all that the common row says.
  const isWhole = cores.every((core, m) => core >= 0 || shared.loads[m]!.length === 0)
  if (isWhole) limits.length = shared.memory + 1
  const first = limits.length
  limits.push(...(program.coreLimits ?? []))
  const loads = shared.loads.map((own, m) =>
    own.length === 0 || cores[m]! < 0 ? own : [...(isWhole ? [] : own), first + cores[m]!],
  )
  const rows = { limits, memory: shared.memory, loads }
  return isWhole ? { ...rows, cores: program.coreLimits?.map((_, core) => first + core) } : rows
}

/** Adds `times` what a configuration of a model (or a change of one) uses of each row. */
export function addUse(
  rows: Rows,
  program: Program,
  m: number,
  { memory, latency }: Pick<Config, 'memory' | 'latency'>,
  used: Float64Array,
  times = 1,
): void {
  if (rows.memory >= 0) used[rows.memory]! += times * memory
  const load = latency * program.models[m]!.loadRate
  for (const r of rows.loads[m]!) used[r]! += times * load
}

export function useOf(rows: Rows, program: Program, configs: readonly Config[]): Float64Array {
  const used = new Float64Array(rows.limits.length)
  configs.forEach((config, m) => {
    addUse(rows, program, m, config, used)
  })
  return used
}

export const fitsRows = (rows: Rows, used: Float64Array): boolean => rows.limits.every((limit, r) => used[r]! <= limit)

/** The prices of the rows as prices of a model's memory and latency. */
export function pricesFor(rows: Rows, model: ModelProgram, m: number, duals: Float64Array) {
  return {
    cost: 1,
    memory: rows.memory >= 0 ? duals[rows.memory]! : 0,
    latency: rows.loads[m]!.reduce((sum, r) => sum + duals[r]! * model.loadRate, 0),
  }
}

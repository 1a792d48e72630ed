import type { ModelProgram, Program } from './compile.ts'
import { type Config, configOf, latencyLimitOf } from './price.ts'
import { type Rows, sharedRows } from './rows.ts'
import type { Pool } from './standing.ts'

/** Configurations of each model that are kept for the next solve. */
const KEPT = 12

/** What is known of one model, in the words of the problem: positions there do not move when a limit changes. */
interface KnownModel {
  readonly signature: string
  readonly configs: readonly KnownConfig[]
  readonly planned: KnownConfig | undefined
}

interface KnownConfig {
  readonly variant: number
  /** position in the problem of the choice of each block (blocks in the order of their ids) */
  readonly choices: Int32Array
}

/** What a solve leaves to the next one: columns, prices of the rows and the plan. */
export interface WarmStart {
  readonly models: ReadonlyMap<string, KnownModel>
  readonly goal: string
  readonly memoryPrice: number
  readonly loadPrice: number
}

/** Keeps of each model the configurations that are best at the final prices, which is what the next master needs. */
export function keepWarm(program: Program, pool: Pool): WarmStart {
  const rows = sharedRows(program)
  const { memoryPrice, loadPrice } = pricesOf(program, rows, pool.duals)
  const models = new Map<string, KnownModel>()
  program.models.forEach((model, m) => {
    const reduced = ({ cost, memory, latency }: Config) =>
      cost + memoryPrice * memory + loadPrice * model.loadRate * latency
    const best = [...pool.configs[m]!].sort((a, b) => reduced(a) - reduced(b)).slice(0, KEPT)
    models.set(model.id, {
      signature: signatureOf(program, model),
      configs: best.map((config) => knownOf(model, config)),
      planned: pool.plan && knownOf(model, pool.plan[m]!),
    })
  })
  return { models, goal: JSON.stringify(program.goal), memoryPrice, loadPrice }
}

/** What is known already, in the numbers of a new program; what no longer fits a model's own limits is left out. */
export function warmPool(program: Program, warm: WarmStart): Pool | undefined {
  if (warm.goal !== JSON.stringify(program.goal)) return undefined
  const known = program.models.map((model) => {
    const one = warm.models.get(model.id)
    return one?.signature === signatureOf(program, model) ? one : undefined
  })
  const configs = program.models.map((model, m) =>
    (known[m]?.configs ?? []).map((config) => configFrom(model, config)).filter((config) => config !== undefined),
  )
  const plan = program.models.map((model, m) => {
    const planned = known[m]?.planned
    return planned && configFrom(model, planned)
  })
  const rows = sharedRows(program)
  const duals = new Float64Array(rows.limits.length)
  if (rows.memory >= 0) duals[rows.memory] = warm.memoryPrice
  const load = rows.loads.find((own) => own.length > 0)?.[0]
  if (load !== undefined) duals[load] = warm.loadPrice
  return {
    configs,
    duals: known.some((one) => one !== undefined) ? duals : undefined,
    plan: plan.every((config) => config !== undefined) ? plan : undefined,
  }
}

function pricesOf(program: Program, rows: Rows, duals: Float64Array | undefined) {
  const load = program.models.flatMap((_, m) => rows.loads[m]!)[0]
  return {
    memoryPrice: rows.memory >= 0 ? (duals?.[rows.memory] ?? 0) : 0,
    loadPrice: load === undefined ? 0 : (duals?.[load] ?? 0),
  }
}

/** The names of a model's variants, blocks and choices: with the same names, positions mean the same. */
function signatureOf(program: Program, { index }: ModelProgram): string {
  const { variants, blocks } = program.problem.models[index]!
  return (variants ?? [{ id: '', blocks: blocks ?? [] }])
    .map(
      (variant) =>
        `${variant.id}(${variant.blocks.map(({ id, choices }) => `${id}:${choices.map((c) => c.id).join()}`)})`,
    )
    .join(';')
}

function knownOf(model: ModelProgram, { variant, picks }: Config): KnownConfig {
  return { variant, choices: picks.map((item) => model.variants[variant]!.choice[item]!) }
}

function configFrom(model: ModelProgram, { variant, choices }: KnownConfig): Config | undefined {
  const columns = model.variants[variant]!
  const picks = new Int32Array(choices.length)
  for (let block = 0; block < choices.length; block++) {
    const item = columns.choice.indexOf(choices[block]!, columns.start[block]!)
    if (item < 0 || item >= columns.start[block + 1]!) return undefined
    picks[block] = item
  }
  const config = configOf(model, variant, picks)
  return config.latency <= latencyLimitOf(model) && config.loss <= model.lossLimit ? config : undefined
}

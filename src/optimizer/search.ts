import type { ModelProgram, Program } from './compile.ts'

/** One way to run a model: a variant and a choice for each of its blocks (positions in the compiled columns). */
export interface Config {
  readonly variant: number
  readonly picks: Int32Array
  readonly cost: number
  readonly latency: number
  readonly memory: number
  readonly loss: number
}

export interface Found {
  readonly configs: readonly Config[]
  /** core of each model, in the order of the program; undefined when the problem names no cores */
  readonly cores: readonly number[] | undefined
  readonly cost: number
  /** no plan costs less than this */
  readonly lower: number
}

export interface SearchResult {
  readonly found: Found | undefined
  /** whether "nothing found" is proven */
  readonly complete: boolean
}

const LABELS = 3000

/** Labels over blocks, then over models; exact unless a front grows beyond the cap. */
export function minimise(program: Program): SearchResult {
  let complete = true
  let lower = 0
  interface Partial {
    readonly cost: number
    readonly memory: number
    readonly loads: readonly number[]
    readonly core: number
    readonly config: Config | undefined
    readonly before: Partial | undefined
  }
  const cores = program.coreLimits
  let partials: Partial[] = [
    { cost: 0, memory: 0, loads: cores?.map(() => 0) ?? [], core: -1, config: undefined, before: undefined },
  ]
  for (const model of program.models) {
    const front = configsOf(model)
    if (front.length >= LABELS) complete = false
    lower += front[0]?.cost ?? 0
    const next: Partial[] = []
    for (const before of partials) {
      for (const config of front) {
        const memory = before.memory + config.memory
        if (memory > program.memoryLimit) continue
        const load = config.latency * model.loadRate
        for (let core = 0; core < Math.max(1, cores?.length ?? 1); core++) {
          const loads = cores ? before.loads.map((value, i) => (i === core ? value + load : value)) : before.loads
          if (cores && !(loads[core]! <= cores[core]!)) continue
          next.push({ cost: before.cost + config.cost, memory, loads, core, config, before })
        }
      }
    }
    next.sort((a, b) => a.cost - b.cost || a.memory - b.memory)
    partials = []
    for (const label of next) {
      if (partials.length >= LABELS) {
        complete = false
        break
      }
      const beaten = partials.some(
        (p) => p.memory <= label.memory && p.loads.every((load, i) => load <= label.loads[i]!),
      )
      if (!beaten) partials.push(label)
    }
  }
  const best = partials[0]
  if (!best) return { found: undefined, complete }
  const configs: Config[] = []
  const placed: number[] = []
  for (let label: Partial | undefined = best; label?.config; label = label.before) {
    configs.unshift(label.config)
    placed.unshift(label.core)
  }
  return {
    found: { configs, cores: cores && placed, cost: best.cost, lower: complete ? best.cost : lower },
    complete,
  }
}

function configsOf(model: ModelProgram): Config[] {
  const limit = Math.min(model.latencyLimit, model.coreLatencyLimit)
  const all: Config[] = []
  model.variants.forEach(({ blocks }, variant) => {
    let front: Config[] = [{ variant, picks: new Int32Array(0), cost: 0, latency: 0, memory: 0, loss: 0 }]
    const suffix = (column: 'latency' | 'loss') => {
      const sums = new Float64Array(blocks.length + 1)
      for (let b = blocks.length - 1; b >= 0; b--)
        sums[b] = sums[b + 1]! + blocks[b]![column].reduce((a, x) => Math.min(a, x))
      return sums
    }
    const leastLatency = suffix('latency')
    const leastLoss = suffix('loss')
    blocks.forEach((block, b) => {
      const next: Config[] = []
      for (const config of front) {
        for (let d = 0; d < block.cost.length; d++) {
          const latency = config.latency + block.latency[d]!
          const loss = config.loss + block.loss[d]!
          if (latency + leastLatency[b + 1]! > limit || loss + leastLoss[b + 1]! > model.lossLimit) continue
          const picks = new Int32Array(b + 1)
          picks.set(config.picks)
          picks[b] = d
          next.push({
            variant,
            picks,
            cost: config.cost + block.cost[d]!,
            latency,
            memory: config.memory + block.memory[d]!,
            loss,
          })
        }
      }
      front = undominatedConfigs(next)
    })
    all.push(...front)
  })
  return undominatedConfigs(all)
}

function undominatedConfigs(configs: Config[]): Config[] {
  configs.sort((a, b) => a.cost - b.cost || a.latency - b.latency || a.memory - b.memory || a.loss - b.loss)
  const kept: Config[] = []
  for (const config of configs) {
    if (kept.length >= LABELS) break
    const beaten = kept.some((k) => k.latency <= config.latency && k.memory <= config.memory && k.loss <= config.loss)
    if (!beaten) kept.push(config)
  }
  return kept
}

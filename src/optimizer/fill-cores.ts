import { explore } from './choose.ts'
import type { Program } from './compile.ts'
import type { Enumerated } from './enumerate.ts'
import type { Config } from './price.ts'

/** What models may run as, and what the rows cost: enough to fill one core after the other. */
export interface Menu {
  readonly program: Program
  /** near-optimal configurations of each model, and how far the list reaches */
  readonly lists: readonly Enumerated[]
  /** memory that these models may use together, and the price of a step of it */
  readonly memoryLimit: number
  readonly memoryPrice: number
  /** least reduced cost of each model at these prices */
  readonly least: Float64Array
  /** what the prices prove that every plan costs */
  readonly root: number
  /** plans that cost more than `root` by more than this are of no interest */
  readonly gap: number
}

/** Ways to run some models on one core: cheapest first, each next one dearer and lighter in memory. */
export interface Ways {
  readonly models: readonly number[]
  readonly cost: Float64Array
  readonly memory: Float64Array
  /** how much more a plan costs than `root` because of this way: reduced costs above the least, and room left unused */
  readonly excess: Float64Array
  /** the same of the best way that was cut off; infinite when none was */
  readonly dropped: number
  configs(i: number): Config[]
}

/** The core to be filled: its room in load steps (infinite for models that load none), and the price of a step. */
export interface Core {
  readonly room: number
  readonly price: number
}

/** @param cap partial ways kept */
export function fillCore(menu: Menu, models: readonly number[], { room, price }: Core, cap: number): Ways {
  const { program, lists, memoryLimit, memoryPrice, gap } = menu
  const start = new Int32Array(models.length + 1)
  models.forEach((m, g) => {
    start[g + 1] = start[g]! + lists[m]!.configs.length
  })
  const all = models.flatMap((m) => lists[m]!.configs)
  const onCore = room < Number.POSITIVE_INFINITY
  const byMemory = memoryLimit < Number.POSITIVE_INFINITY
  const load = Float64Array.from(
    models.flatMap((m) => lists[m]!.configs.map((config) => config.latency * program.models[m]!.loadRate)),
  )
  const key = Float64Array.from(all, (config) => config.cost)
  const memory = Float64Array.from(all, (config) => config.memory)
  const explored = explore(
    {
      start,
      key,
      dims: [...(byMemory ? [memory] : []), ...(onCore ? [load] : [])],
      limits: [...(byMemory ? [memoryLimit] : []), ...(onCore ? [room] : [])],
    },
    {
      price: [...(byMemory ? [memoryPrice] : []), ...(onCore ? [price] : [])],
      waste: [...(byMemory ? [0] : []), ...(onCore ? [price] : [])],
      gap,
      cap,
    },
  )
  // On a filled core nobody asks how full it is: only cost and memory still matter.
  const kept: { readonly picks: Int32Array; readonly cost: number; readonly memory: number }[] = []
  for (let i = 0; i < explored.keys.length; i++) {
    const picks = explored.picks(i)
    let used = 0
    for (const item of picks) used += memory[item]!
    const before = kept[kept.length - 1]
    if (!before || (byMemory && used < before.memory)) kept.push({ picks, cost: explored.keys[i]!, memory: used })
  }
  const base = models.reduce((sum, m) => sum + menu.least[m]!, 0) - (onCore ? price * room : 0)
  return {
    models,
    cost: Float64Array.from(kept, (one) => one.cost),
    memory: Float64Array.from(kept, (one) => one.memory),
    excess: Float64Array.from(kept, (one) => one.cost + memoryPrice * one.memory - base),
    dropped: explored.dropped,
    configs: (k) => Array.from(kept[k]!.picks, (item) => all[item]!),
  }
}

/** A plan put together from filled cores. */
export interface Joined {
  /** the way of each core; undefined when nothing fits within the gap */
  readonly picks: Int32Array | undefined
  readonly cost: number
  /** the least excess among what the cap cut off; infinite when nothing was */
  readonly dropped: number
}

/** The cheapest choice of a way for each core within the memory limit. */
export function joinCores({ memoryLimit, memoryPrice, gap }: Menu, cores: readonly Ways[], cap: number): Joined {
  const start = new Int32Array(cores.length + 1)
  cores.forEach(({ cost }, g) => {
    start[g + 1] = start[g]! + cost.length
  })
  const join = (column: 'cost' | 'memory') => {
    const values = new Float64Array(start[cores.length]!)
    cores.forEach((ways, g) => {
      values.set(ways[column], start[g])
    })
    return values
  }
  const byMemory = memoryLimit < Number.POSITIVE_INFINITY
  const explored = explore(
    {
      start,
      key: join('cost'),
      dims: byMemory ? [join('memory')] : [],
      limits: byMemory ? [memoryLimit] : [],
    },
    { price: byMemory ? [memoryPrice] : [], waste: byMemory ? [memoryPrice] : [], gap, cap },
  )
  const { dropped } = explored
  if (explored.keys.length === 0) return { picks: undefined, cost: Number.POSITIVE_INFINITY, dropped }
  return { picks: explored.picks(0).map((item, g) => item - start[g]!), cost: explored.keys[0]!, dropped }
}

/** The configurations of a plan by model. */
export function configsOf({ picks }: Joined, cores: readonly Ways[]): Config[] | undefined {
  if (!picks) return undefined
  const configs: Config[] = []
  cores.forEach((ways, g) => {
    const own = ways.configs(picks[g]!)
    ways.models.forEach((m, k) => {
      configs[m] = own[k]!
    })
  })
  return configs
}

import type { Program } from './compile.ts'
import { type Config, configOf, latencyLimitOf } from './price.ts'
import { addUse, fitsRows, pricesFor, type Rows, useOf } from './rows.ts'

/** Exchanges that are tried two by two; beyond these none can close more than the gap. */
const PAIRED = 300
const PASSES = 12
/** Single exchanges that are sorted and tried in one pass. */
const CONSIDERED = 2000

/** One block of one model takes another choice. */
interface Move {
  readonly m: number
  readonly block: number
  readonly item: number
  readonly cost: number
  readonly latency: number
  readonly memory: number
  readonly loss: number
  readonly score: number
}

/** A plan under change: every model's choices, and what they use. */
interface Draft {
  readonly picks: Int32Array[]
  readonly latency: Float64Array
  readonly loss: Float64Array
  readonly used: Float64Array
}

/**
 * Makes a plan out of any configurations: exchanges choices until the rows hold, then while that lessens the cost.
 *
 * @param duals prices of the rows; they tell which exchange is cheap for what it frees
 * @param gapOf how much the cost of a plan can still fall; what costs more than this at the prices is not tried in pairs
 * @returns undefined when no single exchanges lead to a plan that holds
 */
export function improve(
  program: Program,
  rows: Rows,
  duals: Float64Array,
  configs: readonly Config[],
  gapOf: (cost: number) => number,
): Config[] | undefined {
  const draft: Draft = {
    picks: configs.map((config) => Int32Array.from(config.picks)),
    latency: Float64Array.from(configs, (config) => config.latency),
    loss: Float64Array.from(configs, (config) => config.loss),
    used: useOf(rows, program, configs),
  }
  const search = { program, rows, duals, draft, variants: configs.map((config) => config.variant) }
  if (!repair(search)) return undefined
  fill(search)
  const built = () => draft.picks.map((picks, m) => configOf(program.models[m]!, search.variants[m]!, picks))
  const cost = built().reduce((sum, config) => sum + config.cost, 0)
  const gap = gapOf(cost)
  if (gap > 0) exchangePairs(search, gap)
  return built()
}

type Score = (cost: number, memory: number, latency: number, m: number) => number

interface Search {
  readonly program: Program
  readonly rows: Rows
  readonly duals: Float64Array
  readonly draft: Draft
  readonly variants: readonly number[]
}

/**
 * The moves of all models that `score` gives a number (NaN: not wanted): the `most` with the least score, in its order.
 */
function movesBy(search: Search, most: number, score: Score): Move[] {
  const { draft, program, variants } = search
  const found: { scores: number[]; m: number[]; block: number[]; item: number[] } = {
    scores: [],
    m: [],
    block: [],
    item: [],
  }
  for (let m = 0; m < draft.picks.length; m++) {
    const { start, cost, memory, latency } = program.models[m]!.variants[variants[m]!]!
    const picks = draft.picks[m]!
    for (let block = 0; block < picks.length; block++) {
      const now = picks[block]!
      for (let item = start[block]!; item < start[block + 1]!; item++) {
        if (item === now) continue
        const value = score(cost[item]! - cost[now]!, memory[item]! - memory[now]!, latency[item]! - latency[now]!, m)
        if (Number.isNaN(value)) continue
        found.scores.push(value)
        found.m.push(m)
        found.block.push(block)
        found.item.push(item)
      }
    }
  }
  const { scores } = found
  const limit = scores.length > most ? Float64Array.from(scores).sort()[most]! : Number.POSITIVE_INFINITY
  const moves: Move[] = []
  scores.forEach((value, i) => {
    if (value > limit) return
    const m = found.m[i]!
    const item = found.item[i]!
    const block = found.block[i]!
    const variant = program.models[m]!.variants[variants[m]!]!
    const now = draft.picks[m]![block]!
    moves.push({
      m,
      block,
      item,
      cost: variant.cost[item]! - variant.cost[now]!,
      memory: variant.memory[item]! - variant.memory[now]!,
      latency: variant.latency[item]! - variant.latency[now]!,
      loss: variant.loss[item]! - variant.loss[now]!,
      score: value,
    })
  })
  return moves.sort((a, b) => a.score - b.score || a.m - b.m || a.item - b.item).slice(0, most)
}

/**
 * Identical models offer the same exchange many times; two of each are enough to choose from.
 *
 * @param moves in order of their score: equal ones stand near each other
 */
function withoutRepeats(moves: readonly Move[]): Move[] {
  return moves.filter((move, i) => {
    let times = 0
    for (let k = i - 1; k >= 0 && times < 2 && moves[k]!.score === move.score; k--) {
      const other = moves[k]!
      if (
        other.cost === move.cost &&
        other.memory === move.memory &&
        other.latency === move.latency &&
        other.loss === move.loss
      )
        times++
    }
    return times < 2
  })
}

const keepsModel = ({ program, draft }: Search, { m, latency, loss }: Move): boolean =>
  draft.latency[m]! + latency <= latencyLimitOf(program.models[m]!) &&
  draft.loss[m]! + loss <= program.models[m]!.lossLimit

function keepsRows({ program, rows, draft }: Search, { m, memory, latency }: Move): boolean {
  if (rows.memory >= 0 && memory > 0 && draft.used[rows.memory]! + memory > rows.limits[rows.memory]!) return false
  const load = latency * program.models[m]!.loadRate
  return load <= 0 || rows.loads[m]!.every((r) => draft.used[r]! + load <= rows.limits[r]!)
}

function accept(search: Search, move: Move): void {
  const { program, rows, draft } = search
  draft.latency[move.m]! += move.latency
  draft.loss[move.m]! += move.loss
  addUse(rows, program, move.m, move, draft.used)
  draft.picks[move.m]![move.block] = move.item
}

/** Moves that free what is overused, those first that cost least for it. */
function repair(search: Search): boolean {
  const { rows, draft, program } = search
  for (let pass = 0; pass < PASSES; pass++) {
    if (fitsRows(rows, draft.used)) return true
    const over = rows.limits.map((limit, r) => Math.max(0, draft.used[r]! - limit) / Math.max(limit, 1))
    const freed = (memory: number, latency: number, m: number) => {
      let sum = 0
      if (rows.memory >= 0 && over[rows.memory]! > 0) sum -= memory / Math.max(rows.limits[rows.memory]!, 1)
      for (const r of rows.loads[m]!) {
        if (over[r]! > 0) sum -= (latency * program.models[m]!.loadRate) / Math.max(rows.limits[r]!, 1)
      }
      return sum
    }
    const reduced = reducedCost(search)
    const moves = movesBy(search, CONSIDERED, (cost, memory, latency, m) => {
      const gain = freed(memory, latency, m)
      return gain > 0 ? reduced(cost, memory, latency, m) / gain : Number.NaN
    })
    const touched = new Set<number>()
    let moved = false
    for (const move of moves) {
      const key = move.m * 1e6 + move.block
      if (touched.has(key) || !keepsModel(search, move) || !breaksLess(search, move)) continue
      touched.add(key)
      accept(search, move)
      moved = true
      if (fitsRows(rows, draft.used)) return true
    }
    if (!moved) return false
  }
  return false
}

/** Whether the overuse of all rows together falls. */
function breaksLess({ program, rows, draft }: Search, { m, memory, latency }: Move): boolean {
  let before = 0
  let after = 0
  rows.limits.forEach((limit, r) => {
    const step =
      (r === rows.memory ? memory : 0) + (rows.loads[m]!.includes(r) ? latency * program.models[m]!.loadRate : 0)
    before += Math.max(0, draft.used[r]! - limit) / Math.max(limit, 1)
    after += Math.max(0, draft.used[r]! + step - limit) / Math.max(limit, 1)
  })
  return after < before
}

function reducedCost({ program, rows, duals }: Search) {
  const prices = program.models.map((model, m) => pricesFor(rows, model, m, duals))
  return (cost: number, memory: number, latency: number, m: number): number =>
    cost + prices[m]!.memory * memory + prices[m]!.latency * latency
}

/** Moves that lessen the cost and fit, those first that make most of what they use. */
function fill(search: Search): void {
  const { program, rows, draft } = search
  const reduced = reducedCost(search)
  for (let pass = 0; pass < PASSES; pass++) {
    const left = rows.limits.map((limit, r) => limit - draft.used[r]!)
    const memoryLeft = rows.memory >= 0 ? left[rows.memory]! : Number.POSITIVE_INFINITY
    const latencyLeft = program.models.map((model, m) =>
      Math.min(latencyLimitOf(model) - draft.latency[m]!, ...rows.loads[m]!.map((r) => left[r]! / model.loadRate)),
    )
    const moves = movesBy(search, CONSIDERED, (cost, memory, latency, m) => {
      if (cost >= 0 || memory > memoryLeft || latency > latencyLeft[m]!) return Number.NaN
      const paid = reduced(cost, memory, latency, m) - cost
      return paid <= 0 ? cost * 1e9 : cost / paid
    })
    const touched = new Set<number>()
    for (const move of moves) {
      const key = move.m * 1e6 + move.block
      if (touched.has(key) || !keepsModel(search, move) || !keepsRows(search, move)) continue
      touched.add(key)
      accept(search, move)
    }
    if (touched.size === 0) return
  }
}

/** Two moves at once, where one makes room for the other. */
function exchangePairs(search: Search, gap: number): void {
  const { program, rows, draft } = search
  const reduced = reducedCost(search)
  for (let pass = 0; pass < PASSES; pass++) {
    const near = movesBy(search, CONSIDERED, (cost, memory, latency, m) => {
      const value = reduced(cost, memory, latency, m)
      return value <= gap ? value : Number.NaN
    })
    // In order of cost, so that the first pair that saves too little ends the search among those that follow.
    const moves = withoutRepeats(near)
      .slice(0, PAIRED)
      .sort((a, b) => a.cost - b.cost)
    const uses = moves.map((move) => useOfMove(search, move))
    const left = rows.limits.map((limit, r) => limit - draft.used[r]!)
    const latencyLeft = program.models.map((model, m) => latencyLimitOf(model) - draft.latency[m]!)
    const lossLeft = program.models.map((model, m) => model.lossLimit - draft.loss[m]!)
    const keeps = (m: number, latency: number, loss: number) => latency <= latencyLeft[m]! && loss <= lossLeft[m]!
    const alone = moves.map(({ m, latency, loss }) => keeps(m, latency, loss))
    let best: readonly Move[] | undefined
    let least = -1e-12
    for (let i = 0; i < moves.length; i++) {
      const a = moves[i]!
      if (a.cost >= 0) break
      if (a.cost < least && alone[i] && uses[i]!.every((use, r) => use <= left[r]!)) {
        best = [a]
        least = a.cost
      }
      for (let j = i + 1; j < moves.length; j++) {
        const b = moves[j]!
        if (a.cost + b.cost >= least) break
        if (!fitBoth(uses[i]!, uses[j]!, left)) continue
        if (a.m !== b.m) {
          if (!alone[i] || !alone[j]) continue
        } else if (a.block === b.block || !keeps(a.m, a.latency + b.latency, a.loss + b.loss)) continue
        best = [a, b]
        least = a.cost + b.cost
      }
    }
    if (!best) return
    for (const move of best) accept(search, move)
  }
}

/** What a move adds to each row. */
function useOfMove({ program, rows }: Search, move: Move): Float64Array {
  const use = new Float64Array(rows.limits.length)
  addUse(rows, program, move.m, move, use)
  return use
}

function fitBoth(a: Float64Array, b: Float64Array, left: readonly number[]): boolean {
  for (let r = 0; r < left.length; r++) if (a[r]! + b[r]! > left[r]!) return false
  return true
}

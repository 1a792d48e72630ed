import { BlockscaleError } from '../base/index.ts'
import type { Problem, ProblemBlock, ProblemChoice, ProblemModel } from './problem.ts'

/** More choices than any device could measure; a request beyond it is a mistake or an attack. */
export const MAX_CHOICES = 250_000

/** Magnitudes up to which sums stay exact; no machine of this kind comes near them. */
const MAX_MS = 1e9
const MAX_BYTES = 2 ** 50
const MAX_NUMBER = 1e9
const MAX_CORES = 4096

const OBJECTIVES = ['quality', 'latency', 'memory', 'cpu'] as const

/**
 * Checks a problem that comes from outside and returns it with only the fields that are known.
 *
 *     parseProblem({ models: [{ id: 'm', quality: 1, blocks: [] }] })
 *     // → throws "models[0].blocks: must not be empty"
 *
 * @throws BlockscaleError PROBLEM_INVALID naming the path of the first thing that makes no sense
 */
export function parseProblem(json: unknown): Problem {
  const root = fields(json, 'problem')
  const count = { choices: 0 }
  const models = list(root.models, 'models').map((item, i) => parseModel(item, `models[${i}]`, count))
  distinct(models, 'models')
  const objective = root.objective ?? undefined
  if (objective !== undefined && !OBJECTIVES.some((known) => known === objective)) {
    fail('objective', `must be one of ${OBJECTIVES.join(', ')}, not ${show(objective)}`)
  }
  const placement = root.placement ?? undefined
  if (placement !== undefined && placement !== 'pinned' && placement !== 'shared') {
    fail('placement', `must be pinned or shared, not ${show(placement)}`)
  }
  const problem: Problem = {
    memoryBytes: optional(root.memoryBytes, 'memoryBytes', 0, MAX_BYTES),
    cores: optional(root.cores, 'cores', 0, MAX_CORES),
    utilisation: optional(root.utilisation, 'utilisation', 0, 1),
    placement,
    models,
    objective: objective as Problem['objective'],
    timeLimitMs: optional(root.timeLimitMs, 'timeLimitMs', 0, MAX_MS),
    swapWeight: optional(root.swapWeight, 'swapWeight', 0, MAX_BYTES),
    swapWeightPerMB: optional(root.swapWeightPerMB, 'swapWeightPerMB', 0, MAX_BYTES),
  }
  if (problem.utilisation === 0) fail('utilisation', 'must be greater than 0 and at most 1')
  if (problem.timeLimitMs === 0) fail('timeLimitMs', 'must be greater than 0')
  return problem
}

function parseModel(json: unknown, path: string, count: { choices: number }): ProblemModel {
  const model = fields(json, path)
  const common = {
    id: name(model.id, `${path}.id`),
    quality: number(model.quality, `${path}.quality`, -MAX_NUMBER, MAX_NUMBER),
    weight: optional(model.weight, `${path}.weight`, 0, MAX_NUMBER),
    maxLatencyMs: optional(model.maxLatencyMs, `${path}.maxLatencyMs`, 0, MAX_MS),
    rate: optional(model.rate, `${path}.rate`, 0, MAX_NUMBER),
    minQuality: optional(model.minQuality, `${path}.minQuality`, -MAX_NUMBER, MAX_NUMBER),
  }
  const given = (value: unknown) => value !== undefined && value !== null
  if (given(model.blocks) === given(model.variants)) fail(path, 'needs either "blocks" or "variants"')
  if (given(model.blocks)) return { ...common, blocks: parseBlocks(model.blocks, `${path}.blocks`, count) }
  const variants = list(model.variants, `${path}.variants`).map((item, i) => {
    const at = `${path}.variants[${i}]`
    const variant = fields(item, at)
    return { id: name(variant.id, `${at}.id`), blocks: parseBlocks(variant.blocks, `${at}.blocks`, count) }
  })
  distinct(variants, `${path}.variants`)
  return { ...common, variants }
}

function parseBlocks(json: unknown, path: string, count: { choices: number }): ProblemBlock[] {
  const blocks = list(json, path).map((item, i) => {
    const at = `${path}[${i}]`
    const block = fields(item, at)
    const id = name(block.id, `${at}.id`)
    const raw = list(block.choices, `${at}.choices`)
    count.choices += raw.length
    if (count.choices > MAX_CHOICES) fail(`${at}.choices`, `the problem has more than ${MAX_CHOICES} choices`)
    const choices = raw.map((choice, j) => parseChoice(choice, `${at}.choices[${j}]`))
    distinct(choices, `${at}.choices`)
    const current = block.current ?? undefined
    if (current !== undefined && !choices.some((choice) => choice.id === current)) {
      fail(`${at}.current`, `${show(current)} is not the id of a choice of this block`)
    }
    return { id, current: current as string | undefined, choices }
  })
  distinct(blocks, path)
  return blocks
}

function parseChoice(json: unknown, path: string): ProblemChoice {
  const choice = fields(json, path)
  return {
    id: name(choice.id, `${path}.id`),
    // A loss is measured, so a small gain (below zero) is possible; a time or a size below zero is not.
    loss: number(choice.loss, `${path}.loss`, -MAX_NUMBER, MAX_NUMBER),
    latencyMs: number(choice.latencyMs, `${path}.latencyMs`, 0, MAX_MS),
    memoryBytes: number(choice.memoryBytes, `${path}.memoryBytes`, 0, MAX_BYTES),
    swapMs: optional(choice.swapMs, `${path}.swapMs`, 0, MAX_MS),
  }
}

type Fields = Readonly<Record<string, unknown>>

function fields(value: unknown, path: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    fail(path, `must be an object, not ${show(value)}`)
  }
  return value as Fields
}

function list(value: unknown, path: string): readonly unknown[] {
  if (!Array.isArray(value)) fail(path, `must be a list, not ${show(value)}`)
  if (value.length === 0) fail(path, 'must not be empty')
  return value
}

function name(value: unknown, path: string): string {
  if (typeof value !== 'string' || value.length === 0) fail(path, `must be a name, not ${show(value)}`)
  return value
}

function number(value: unknown, path: string, least: number, most: number): number {
  if (typeof value !== 'number' || !Number.isFinite(value)) fail(path, `must be a finite number, not ${show(value)}`)
  if (value < least || value > most) fail(path, `must be between ${least} and ${most}, not ${value}`)
  return value
}

const optional = (value: unknown, path: string, least: number, most: number): number | undefined =>
  value === undefined || value === null ? undefined : number(value, path, least, most)

function distinct(items: readonly { readonly id: string }[], path: string): void {
  const seen = new Map<string, number>()
  items.forEach((item, i) => {
    const before = seen.get(item.id)
    if (before !== undefined) fail(`${path}[${i}].id`, `"${item.id}" is already the id of ${path}[${before}]`)
    seen.set(item.id, i)
  })
}

function show(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (typeof value === 'number' || value === null) return String(value)
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'string') return `"${value.slice(0, 40)}"`
  return typeof value === 'object' ? 'an object' : typeof value
}

function fail(path: string, what: string): never {
  throw new BlockscaleError('PROBLEM_INVALID', `${path}: ${what}`)
}

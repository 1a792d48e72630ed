import { seededRandom } from '../src/base/index.ts'
import type { Problem, ProblemChoice, ProblemModel } from '../src/optimizer/index.ts'

/** Kinds of instances: how tight the limits are, and what makes the choices awkward. */
export const KINDS = [
  'loose',
  'tight',
  'near-infeasible',
  'compute-bound',
  'tied',
  'identical',
  'correlated',
  'random',
] as const
export type Kind = (typeof KINDS)[number]

export interface Size {
  readonly models: number
  readonly blocks: number
  readonly choices: number
}

/**
 * A problem of the given size and kind; equal seeds give equal problems.
 *
 * Choices are like a measured menu: int8 is faster and smaller for little loss, pruning trades more of each; some choices are of
 * no use. Limits are set from two plans that exist: the heaviest one and the one that is lightest in memory and compute together.
 */
export function instance(size: Size, kind: Kind, seed: number): Problem {
  const random = seededRandom(seed * 7919 + KINDS.indexOf(kind) * 104729 + size.models * 31 + size.blocks)
  const models: ProblemModel[] = []
  for (let m = 0; m < size.models; m++) {
    const first = models[0]
    models.push(kind === 'identical' && first ? { ...first, id: `m${m}` } : model(size, kind, m, random))
  }
  return limited(models, kind, random)
}

function model(size: Size, kind: Kind, m: number, random: () => number): ProblemModel {
  const scale = 0.5 + 2 * random()
  const blocks = Array.from({ length: size.blocks }, (_, b) => {
    const latency = scale * (0.5 + random())
    const memory = scale * (0.2 + 2 * random()) * 1e6
    const harm = 0.002 + 0.03 * random()
    const choices = Array.from({ length: size.choices }, (_, d) => choice(kind, d, { latency, memory, harm }, random))
    return { id: `b${b}`, choices }
  })
  return { id: `m${m}`, quality: 0.6 + 0.3 * random(), weight: kind === 'tied' ? 1 : 0.5 + random(), blocks }
}

function choice(
  kind: Kind,
  d: number,
  base: { readonly latency: number; readonly memory: number; readonly harm: number },
  random: () => number,
): ProblemChoice {
  const id = d === 0 ? 'original' : `d${d}`
  if (d === 0) return { id, loss: 0, latencyMs: round(base.latency, 4), memoryBytes: Math.round(base.memory) }
  if (kind === 'tied') {
    // Few distinct values: many plans of equal loss, latency and memory.
    const level = Math.floor(random() * 4) / 4
    return {
      id,
      loss: round(level / 100, 4),
      latencyMs: 2 - level - Math.floor(random() * 2) / 4,
      memoryBytes: (5 - 4 * level - Math.floor(random() * 2)) * 2 ** 17,
    }
  }
  if (kind === 'correlated') {
    // Loss is what is saved, plus a little: every plan that fills the limits is nearly as good as every other.
    const part = random()
    return {
      id,
      loss: round(base.harm * part * (1 + 0.01 * random()), 6),
      latencyMs: round(base.latency * (1 - 0.8 * part), 4),
      memoryBytes: Math.round(base.memory * (1 - 0.8 * part * (0.99 + 0.02 * random()))),
    }
  }
  if (kind === 'random') {
    return {
      id,
      loss: round(base.harm * random(), 6),
      latencyMs: round(base.latency * (0.1 + 0.9 * random()), 4),
      memoryBytes: Math.round(base.memory * (0.1 + 0.9 * random())),
    }
  }
  const part = random()
  return {
    id,
    loss: round(base.harm * part ** 2 * (0.4 + 1.2 * random()), 6),
    latencyMs: round(base.latency * (1 - 0.75 * part * (0.6 + 0.4 * random())), 4),
    memoryBytes: Math.round(base.memory * (1 - 0.85 * part * (0.6 + 0.4 * random()))),
  }
}

/** Where between the lightest plan (0) and the one without loss (1) each limit lies. */
const TIGHTNESS: Readonly<Record<Kind, { memory: number; latency: number; compute: number }>> = {
  loose: { memory: 0.8, latency: 0.9, compute: 0.95 },
  tight: { memory: 0.25, latency: 0.4, compute: 0.45 },
  'near-infeasible': { memory: 0.002, latency: 0.3, compute: 0.002 },
  'compute-bound': { memory: 0.6, latency: 0.7, compute: 0.2 },
  tied: { memory: 0.35, latency: 0.5, compute: 0.45 },
  identical: { memory: 0.35, latency: 0.4, compute: 0.4 },
  correlated: { memory: 0.35, latency: 0.45, compute: 0.4 },
  random: { memory: 0.25, latency: 0.4, compute: 0.3 },
}

function limited(models: readonly ProblemModel[], kind: Kind, random: () => number): Problem {
  const { memory, latency, compute } = TIGHTNESS[kind]
  const cores = models.length === 1 ? 1 : Math.min(8, Math.max(2, models.length >> 2))
  const utilisation = 0.9
  const ends = models.map((model) => {
    const heavy = sum(model, (choices) => choices[0]!)
    const light = sum(model, (choices) =>
      choices.reduce((best, choice) => (weight(choice, choices[0]!) < weight(best, choices[0]!) ? choice : best)),
    )
    return { heavy, light }
  })
  // A core must hold each model alone and the models must fill the cores: rates are set so that half of the load is about right.
  const heaviest = ends.reduce((total, { heavy }) => total + heavy.latencyMs, 0)
  const between = (light: number, heavy: number, t: number) => light + t * (heavy - light)
  const rated = models.map((model, m) => {
    const { heavy, light } = ends[m]!
    const rate = kind === 'identical' ? 10 : 8 + Math.floor(12 * random())
    return {
      ...model,
      rate,
      maxLatencyMs: round(Math.max(between(light.latencyMs, heavy.latencyMs, latency), light.latencyMs), 4) + 0.0001,
    }
  })
  const load = (end: 'heavy' | 'light') =>
    rated.reduce((total, model, m) => total + ((model.rate ?? 0) * ends[m]![end].latencyMs) / 1000, 0)
  const room = between(load('light'), load('heavy'), compute) * (kind === 'near-infeasible' ? 1 : 1.0005)
  const factor = (cores * utilisation) / room
  return {
    memoryBytes: Math.floor(between(total(ends, 'light', 'memoryBytes'), total(ends, 'heavy', 'memoryBytes'), memory)),
    cores,
    utilisation,
    // The same problem in other units: rates are scaled so that the compute limit is a round number of cores.
    models: rated.map((model) => ({ ...model, rate: round(model.rate * factor, 3) })),
    timeLimitMs: heaviest > 0 ? 10_000 : 1000,
  }
}

const weight = (choice: ProblemChoice, original: ProblemChoice): number =>
  choice.latencyMs / original.latencyMs + choice.memoryBytes / original.memoryBytes

type Sum = { readonly latencyMs: number; readonly memoryBytes: number }

function sum(model: ProblemModel, pick: (choices: readonly ProblemChoice[]) => ProblemChoice): Sum {
  let latencyMs = 0
  let memoryBytes = 0
  for (const { choices } of model.blocks ?? []) {
    const choice = pick(choices)
    latencyMs += choice.latencyMs
    memoryBytes += choice.memoryBytes
  }
  return { latencyMs, memoryBytes }
}

const total = (
  ends: readonly { readonly heavy: Sum; readonly light: Sum }[],
  end: 'heavy' | 'light',
  column: keyof Sum,
): number => ends.reduce((sum, one) => sum + one[end][column], 0)

const round = (value: number, digits: number): number => Math.round(value * 10 ** digits) / 10 ** digits

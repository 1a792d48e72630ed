import { ORIGINAL, type Progress, spread } from '../base/index.ts'
import {
  type Combination,
  type Costs,
  correctionsBy,
  type Effort,
  fitPredictor,
  type MeasuredCombination,
  measureWholesAtSizes,
  type ProfileStore,
  predictors,
  type Size,
  type Split,
  thisDevice,
} from '../profiles/index.ts'
import type { Choices, Manifest, Zoo } from '../zoo/index.ts'
import { keyOf, originalChoices } from './choices.ts'
import { combinationsOfPlans, drawCombinations } from './combinations.ts'
import type { Crew } from './crew.ts'
import { type Evaluation, lossOf } from './evaluate.ts'
import { fuseToBytes } from './fuse.ts'
import { descendantsOf, type Glances, glanceAtPlans } from './plan-glances.ts'
import { factsOf, type SizeProfile } from './profile.ts'

export interface CombineOptions {
  readonly manifest: Manifest
  /** the model's own input size first */
  readonly profiles: readonly SizeProfile[]
  /** pictures that predictions are fitted on */
  readonly refitPictures: number
  /** milliseconds since the epoch at which it should be done */
  readonly until?: number | undefined
  /** how often wholes are measured */
  readonly effort?: Effort | undefined
  readonly zoo: Zoo
  readonly store: ProfileStore
  readonly crew: Crew
  readonly progress: Progress
}

/** Beyond this divergence a network is of no use, and no plan goes there. */
const MOST_DIVERGENCE = 2.5
/** Combinations whose quality the prediction is fitted on, for what they cost in runs (on one core), and to check it on. */
const FITTED = { least: 20, most: 40, ms: 30_000 }
const CHECKED = 8
/**
 * More combinations of which only the divergence is measured, on the first pictures that time allows: that is enough to see what each
 * descendant does in the company of others, while quality is a count that needs many pictures.
 */
const GLANCED = { random: 32, leastPictures: 64, ms: 24_000 }
/** Where plans would land is seen best by looking there. */
const PLAN_GLANCES: { readonly own: Glances; readonly other: Glances } = {
  own: { rounds: 2, each: 16 },
  other: { rounds: 1, each: 8 },
}
/** The same where time is short. */
const HURRIED = { fitted: 8, checked: 4, landings: 2, timed: 1, glanced: 0 }
/** What composing and loading a whole takes beside its runs. */
const OVERHEAD_MS = 200
/** Combinations at other input sizes, whose prediction shares most with that at the own size. */
const FEWER = { fitted: 8, checked: 2 }
/**
 * Combinations that plans would take by what was measured of single descendants; of each, time and memory are measured too. A
 * planner takes the blocks that were measured as too fast, and mixes what random draws seldom mix.
 */
const LANDINGS = { own: 6, other: 4, divergence: 1 }
/** Random ones whose time and memory are measured as well; quality is measured for all. */
const TIMED = { own: 5, other: 2 }

/** The combinations of one input size. */
interface Round {
  readonly profile: SizeProfile
  readonly fitted: readonly Choices[]
  readonly glanced: readonly Choices[]
  readonly checked: readonly Choices[]
  readonly timed: readonly Choices[]
}

/**
 * Measures combinations as fused wholes at every input size, so that predictions can be fitted (on the refit pictures) and
 * checked (on the report pictures, with other combinations).
 *
 * @returns quality of the original on the report pictures, at the own input size
 */
export async function fitCombinations(options: CombineOptions): Promise<number> {
  const { manifest, profiles, refitPictures, until, progress } = options
  const hurried = until !== undefined
  const [own] = profiles
  const original = originalChoices(manifest)
  const facts = factsOf(own!)
  const wanted = countOf(own!, refitPictures, until)
  const draw = (count: number, seed: number, known: readonly Choices[]) =>
    drawCombinations(manifest.blocks, facts, count, MOST_DIVERGENCE, seed, [original, ...known])
  const drawn = draw(wanted, 1, [])
  const checked = draw(hurried ? HURRIED.checked : CHECKED, 2, drawn)
  const glanced = draw(hurried ? HURRIED.glanced : GLANCED.random, 3, [...drawn, ...checked])
  const rounds = profiles.map((profile): Round => {
    const isOwn = profile === own
    const count = isOwn ? LANDINGS.own : LANDINGS.other
    const landings = landingsAt(profile, manifest, hurried ? HURRIED.landings : count, [
      original,
      ...drawn,
      ...checked,
      ...glanced,
    ])
    const random = drawn.slice(0, (isOwn ? wanted : FEWER.fitted) - landings.length)
    const fresh = isOwn ? checked : checked.slice(0, FEWER.checked)
    const timed = hurried ? HURRIED.timed : isOwn ? TIMED.own : TIMED.other
    return {
      profile,
      fitted: [original, ...landings, ...random],
      glanced: isOwn ? glanced : [],
      checked: fresh,
      timed: [original, ...landings, ...random.slice(0, timed), ...(hurried ? [] : fresh)],
    }
  })
  const glancesAt = (profile: SizeProfile): Glances => (profile === own ? PLAN_GLANCES.own : PLAN_GLANCES.other)
  const total = rounds.reduce((sum, { profile, fitted, glanced, checked }) => {
    const { rounds: times, each } = glancesAt(profile)
    return sum + 1 + [fitted, glanced, checked].flat().length + (hurried ? 0 : times * each)
  }, 0)
  progress.step('measure combinations', total)
  const glancePictures = Math.max(
    GLANCED.leastPictures,
    Math.floor(GLANCED.ms / (GLANCED.random + PLAN_GLANCES.own.rounds * PLAN_GLANCES.own.each) / originalMsOf(own!)),
  )
  const evaluateRounds = async () => {
    const evaluated = []
    let corrections: ReadonlyMap<string, number> | undefined
    for (const round of rounds) {
      // The pictures of one split at one size at a time.
      const { size } = round.profile
      const [refit, glances] = await Promise.all([
        evaluateAll(options, round.fitted, 'refit', size),
        evaluateAll(options, round.glanced, 'refit', size, glancePictures),
      ])
      const known = [...seenOf(round.fitted, refit, true), ...seenOf(round.glanced, glances, false)]
      const plans = hurried
        ? []
        : await glanceAtPlans(round.profile, {
            ...glancesAt(round.profile),
            blocks: manifest.blocks,
            seen: [...round.fitted, ...round.glanced, ...round.checked],
            known,
            corrections,
            most: MOST_DIVERGENCE,
            look: (choices) => evaluateAll(options, choices, 'refit', size, glancePictures),
          })
      // Those of the own size, which comes first; only glances use them.
      if (!hurried) {
        corrections ??= correctionsBy(
          fitPredictor({
            originalQuality: refit[0]!.quality.value,
            descendants: descendantsOf(round.profile),
            combinations: [
              ...known,
              ...plans.map(({ choices, evaluation: { divergence } }) => ({ choices, divergence })),
            ],
          }),
        )
      }
      const report = await evaluateAll(options, [original, ...round.checked], 'report', size)
      evaluated.push({ refit, glances, plans, report })
    }
    return evaluated
  }
  // What wholes take in memory does not depend on how busy the machine is, so it is read meanwhile.
  const evaluating = evaluateRounds()
  const [evaluated, costs] = await Promise.all([evaluating, costsOf(options, rounds, evaluating)])
  for (const [r, round] of rounds.entries()) {
    const { refit, glances, plans, report } = evaluated[r]!
    const save = (split: Split, choices: readonly Choices[], evaluations: readonly Evaluation[], predict: boolean) => {
      const { pictures } = (split === 'refit' ? refit : report)[0]!
      saveAll(options, round.profile.size, split, choices, evaluations, costs[r]!, predict, pictures)
    }
    save('refit', round.fitted, refit, false)
    save('refit', round.glanced, glances, false)
    save(
      'refit',
      plans.map(({ choices }) => choices),
      plans.map(({ evaluation }) => evaluation),
      false,
    )
    // The original first: predictions are made in the scale of what it is worth on the report pictures.
    save('report', [original], report.slice(0, 1), false)
    save('report', round.checked, report.slice(1), true)
  }
  return evaluated[0]?.report[0]?.quality.value ?? Number.NaN
}

/** From little to much saving of time, where plans would land at an input size by what is known of single descendants. */
function landingsAt(profile: SizeProfile, { blocks }: Manifest, count: number, known: readonly Choices[]): Choices[] {
  const facts = factsOf(profile)
  const seen = new Set(known.map(keyOf))
  const plans = combinationsOfPlans(
    blocks,
    (block, descendant) => facts.get(`${block}/${descendant}`)?.divergence ?? 0,
    (block, descendant) => facts.get(`${block}/${descendant}`)?.latencyMs ?? 0,
    LANDINGS.divergence,
  )
  return spread(
    plans.filter((choices) => !seen.has(keyOf(choices))),
    count,
  )
}

/** Evaluations as the prediction takes them, that of the original first; of glances only the divergence. */
const seenOf = (
  all: readonly Choices[],
  evaluations: readonly Evaluation[],
  withQuality: boolean,
): MeasuredCombination[] =>
  all.map((choices, i) => {
    const evaluation = evaluations[i]!
    const { quality, divergence } = evaluation
    if (!withQuality) return { choices, divergence }
    return { choices, divergence, quality: quality.value, loss: lossOf(evaluation, evaluations[0]!) }
  })

/** As many as the time for runs allows, by what a picture takes in the original. */
function countOf(own: SizeProfile, pictures: number, until: number | undefined): number {
  // Half of what is left: the rest is for checking, and for what the wholes cost.
  const ms = until === undefined ? FITTED.ms : Math.min(FITTED.ms, (until - Date.now()) / 2)
  const least = until === undefined ? FITTED.least : HURRIED.fitted
  const affordable = Math.floor(ms / (originalMsOf(own) * pictures + OVERHEAD_MS))
  return Math.min(FITTED.most, Math.max(least, affordable))
}

const originalMsOf = ({ measurements }: SizeProfile): number =>
  [...measurements.values()].reduce(
    (sum, { descendant, latencyP50Ms }) => (descendant === ORIGINAL ? sum + latencyP50Ms : sum),
    0,
  )

async function evaluateAll(
  { zoo, manifest, crew, progress }: CombineOptions,
  combinations: readonly Choices[],
  split: Split,
  size: Size,
  pictures?: number,
): Promise<Evaluation[]> {
  return Promise.all(
    combinations.map(async (choices) => {
      const evaluation = await crew.run(async () => ({
        kind: 'evaluate',
        model: await fuseToBytes(zoo, manifest, choices),
        split,
        size,
        pictures,
      }))
      progress.advance()
      return evaluation
    }),
  )
}

/** What the timed combinations cost at each size, by `keyOf`. */
async function costsOf(
  { zoo, manifest, effort }: CombineOptions,
  rounds: readonly Round[],
  meanwhile: Promise<unknown>,
): Promise<readonly ReadonlyMap<string, Costs>[]> {
  const all = new Map(rounds.flatMap(({ timed }) => timed.map((choices) => [keyOf(choices), choices] as const)))
  const wholes = await Promise.all(
    [...all].map(async ([id, choices]) => ({ id, model: await fuseToBytes(zoo, manifest, choices) })),
  )
  return measureWholesAtSizes(
    wholes,
    rounds.map(({ profile, timed }) => ({ feeds: profile.feeds, ids: new Set(timed.map(keyOf)) })),
    { effort, meanwhile },
  )
}

function saveAll(
  { manifest, store }: CombineOptions,
  size: Size,
  split: Split,
  combinations: readonly Choices[],
  evaluations: readonly Evaluation[],
  costs: ReadonlyMap<string, Costs>,
  predict: boolean,
  allPictures: number,
): void {
  const original = keyOf(originalChoices(manifest))
  const device = thisDevice().key
  const predictor = predict
    ? predictors(store, manifest, device).find((each) => each.size.join() === size.join())?.predictor
    : undefined
  store.saveCombinations(
    combinations.map((choices, index): Combination => {
      const { quality, fidelity, expectedLoss, divergence, pictures } = evaluations[index]!
      const cost = costs.get(keyOf(choices))
      const estimate = predictor?.quality(choices)
      return {
        model: manifest.model,
        size,
        device,
        split,
        metric: quality.metric,
        choices,
        predicted: estimate
          ? {
              quality: estimate.value,
              qualityLow: estimate.low,
              qualityHigh: estimate.high,
              divergence: predictor?.divergence(choices),
              latencyMs: predictor?.latency(choices).value,
              memoryBytes: predictor?.memory(choices).value,
            }
          : {},
        measured: {
          // Quality on a part of the pictures is not comparable with that on all.
          ...(pictures < allPictures ? {} : { quality: quality.value, fidelity: fidelity.value, expectedLoss }),
          divergence,
          latencyMs: cost?.latencyP50Ms,
          memoryBytes: cost && cost.anonymousBytes + cost.mappedBytes,
        },
        pictures,
        why: keyOf(choices) === original ? 'original' : 'random',
        measuredAt: Date.now(),
      }
    }),
  )
}

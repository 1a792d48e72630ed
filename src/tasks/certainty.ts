import { argmax } from './numbers.ts'

/** What a classifier says of a picture, as logarithms of shares up to a constant, and which class it shows. */
export interface Labelled {
  readonly logits: ArrayLike<number>
  readonly index: number
}

/** Logarithms of temperatures are looked for between these, and are held to 0 as by so wide a normal distribution. */
const WIDEST = Math.log(8)
const PRIOR_WIDTH = 0.3
const STEPS = 30

/**
 * The temperature at which a classifier's shares are what its answers are worth: that of the least negative log-likelihood on
 * labelled pictures (temperature scaling: Guo et al., On Calibration of Modern Neural Networks, 2017). Few pictures say
 * little, so it is drawn to 1.
 */
export function temperatureOf(pictures: readonly Labelled[]): number {
  const cost = (logarithm: number): number =>
    pictures.reduce((sum, { logits, index }) => sum - logShare(logits, index, Math.exp(logarithm)), 0) +
    0.5 * (logarithm / PRIOR_WIDTH) ** 2
  // golden section: the cost has one valley in the inverse temperature, and so in its logarithm
  const ratio = (Math.sqrt(5) - 1) / 2
  let [low, high] = [-WIDEST, WIDEST]
  let [a, b] = [high - ratio * (high - low), low + ratio * (high - low)]
  let [costA, costB] = [cost(a), cost(b)]
  for (let step = 0; step < STEPS; step++) {
    if (costA < costB) {
      ;[high, b, costB] = [b, a, costA]
      a = high - ratio * (high - low)
      costA = cost(a)
    } else {
      ;[low, a, costA] = [a, b, costB]
      b = low + ratio * (high - low)
      costB = cost(b)
    }
  }
  return Math.exp((low + high) / 2)
}

/**
 * How much less likely the variant's first answer is right than the original's, as the original sees it.
 *
 * A count of right answers on some pictures hangs on which pictures they are; this does so far less, as it takes the mean
 * over what the labels could have been.
 */
export function expectedLossOf(original: ArrayLike<number>, variant: ArrayLike<number>, temperature: number): number {
  const [first, other] = [argmax(original), argmax(variant)]
  if (first === other) return 0
  const share = (index: number): number => Math.exp(logShare(original, index, temperature))
  return share(first) - share(other)
}

function logShare(logits: ArrayLike<number>, index: number, temperature: number): number {
  let greatest = Number.NEGATIVE_INFINITY
  for (let i = 0; i < logits.length; i++) greatest = Math.max(greatest, logits[i]!)
  let sum = 0
  for (let i = 0; i < logits.length; i++) sum += Math.exp((logits[i]! - greatest) / temperature)
  return ((logits[index] ?? Number.NEGATIVE_INFINITY) - greatest) / temperature - Math.log(sum)
}

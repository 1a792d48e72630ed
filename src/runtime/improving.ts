import { asBlockscaleError, type Log } from '../base/index.ts'
import type { Manifest } from '../zoo/index.ts'
import { isWorthFusing } from './fusing.ts'
import { type Stage, sameChoice } from './stage.ts'
import { shiftToFused } from './swap.ts'
import type { Polisher, RuntimeHappening } from './types.ts'
import { choicesOf, fileBytesOf, type Target, type Unit } from './unit.ts'
import type { UnitFiles } from './unit-files.ts'

export interface ImprovingOptions {
  readonly stage: Stage
  readonly files: UnitFiles
  /** of what is live */
  readonly manifest: (model: string) => Manifest | undefined
  /** wished for */
  readonly maxLatencyMs: (model: string) => number | undefined
  readonly limitBytes: () => number | undefined
  /** does something while no plan is changed */
  readonly inTurn: <T>(work: () => Promise<T>) => Promise<T>
  readonly polisher?: Polisher | undefined
  readonly tell: (happening: RuntimeHappening) => void
  readonly log: Log
  /** milliseconds that a plan must stay before anything is done for it; 250 unless given */
  readonly settleMs?: number | undefined
}

const SETTLE_MS = 250
/** Milliseconds between two looks at whether enough was seen to adapt to. */
const ADAPT_MS = 5000
/** Requests that tell a chain's latency. */
const ENOUGH = 8

/** Works in the background for a plan that stays: fuses its choices, looks for better weights, compiles what later plans may want. */
export class Improving {
  readonly #options: ImprovingOptions
  #settling: NodeJS.Timeout | undefined
  #work: Promise<void> = Promise.resolve()
  #round = 0
  #closed = false
  /** fused choices that failed their check or their compilation: they stay chains */
  readonly #unfusable = new Set<string>()
  /** those that do not fit beside what is loaded now */
  readonly #tooLarge = new Set<string>()
  /** choices for which better weights were looked for */
  readonly #polished = new Set<string>()
  /** models for which better weights are being looked for */
  readonly #seeking = new Set<string>()
  /** models of which everything is compiled, since the last change */
  readonly #compiled = new Set<string>()

  constructor(options: ImprovingOptions) {
    this.#options = options
  }

  /** To be called when another plan, or the same one again, is in force. What was under way for the one before is given up. */
  settle(): void {
    clearTimeout(this.#settling)
    if (this.#closed) return
    this.#tooLarge.clear()
    this.#compiled.clear()
    const round = ++this.#round
    this.#later(round)
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#settling)
  }

  #later(round: number, ms = this.#options.settleMs ?? SETTLE_MS): void {
    clearTimeout(this.#settling)
    this.#settling = setTimeout(() => {
      this.#work = this.#work.then(() => this.#improve(round))
    }, ms)
    this.#settling.unref()
  }

  /** What makes the plan in force faster comes before what makes the next swaps faster, and a newer plan before both. */
  async #improve(round: number): Promise<void> {
    const isNewest = () => !this.#closed && round === this.#round
    const models = [...this.#options.stage.live.keys()]
    const isDue = () => models.some((model) => this.#isDue(model))
    const steps = [
      ...models.map((model) => ({ model, work: async () => this.#isDue(model) && this.#fuse(model) })),
      ...models.map((model) => ({ model, work: async () => this.#seekWeights(model) })),
      ...models.map((model) => ({ model, work: () => this.#compileAll(model, () => isNewest() && !isDue()) })),
    ]
    for (const { model, work } of steps) {
      if (!isNewest()) return
      await work().catch((thrown) => this.#warn(model, thrown, 'not all that helps a plan could be compiled'))
    }
    const isOpen = (model: string) => this.#couldFuse(model) || !this.#compiled.has(model)
    if (!isNewest()) return
    if (models.some(isOpen)) this.#later(round)
    else if (this.#options.polisher?.adapt) this.#later(round, ADAPT_MS)
  }

  #couldFuse(model: string): boolean {
    const deployed = this.#options.stage.live.get(model)
    if (!deployed || deployed.gear === 'fused') return false
    const { chain, windowBytes } = deployed.target
    const choice = nameOf(chain)
    const isOut = this.#unfusable.has(choice) || this.#tooLarge.has(choice)
    return chain.length > 1 && windowBytes === undefined && !isOut
  }

  #isDue(model: string): boolean {
    if (!this.#couldFuse(model)) return false
    const { stage, maxLatencyMs } = this.#options
    const deployed = stage.live.get(model)!
    const { fused, chain, predicted } = deployed.target
    return isWorthFusing({
      answered: deployed.latencies.count,
      chainMs: deployed.latencies.latest(ENOUGH),
      fusedMs: predicted.latencyMs,
      loadMs: stage.residents.loadMs(fileBytesOf(fused ? [fused] : chain)),
      ageMs: deployed.latencies.ageMs,
      maxLatencyMs: maxLatencyMs(model),
    })
  }

  async #compileAll(model: string, goOn: () => boolean): Promise<void> {
    const manifest = this.#options.manifest(model)
    if (this.#compiled.has(model)) return
    // What cannot be compiled is not tried again before the next change.
    const isDone = manifest ? this.#options.files.compileAll(manifest, goOn) : Promise.resolve(true)
    if (await isDone.catch(() => true)) this.#compiled.add(model)
    await isDone
  }

  /**
   * Looks for better weights for a plan that stays: once from the pictures of the build, and again from what the model sees since.
   * That takes its time, in another process: neither requests nor the next plan wait for it.
   */
  #seekWeights(model: string): void {
    const { stage, polisher } = this.#options
    const deployed = stage.live.get(model)
    if (!polisher || this.#closed || this.#seeking.has(model) || deployed?.gear !== 'fused') return
    const { chain, inputSize, fused } = deployed.target
    if (chain.every(({ kind }) => kind === 'original')) return
    const choice = `${model} ${inputSize.join('x')} ${nameOf(chain)}`
    const isFirst = polisher.polish !== undefined && !fused?.polished && !this.#polished.has(choice)
    if (isFirst) this.#polished.add(choice)
    const seek = isFirst ? polisher.polish : polisher.adapt
    if (!seek) return
    this.#seeking.add(model)
    seek
      .call(polisher, model, choicesOf(chain), inputSize)
      .then((found) => (found ? this.#fuse(model, true) : undefined))
      .catch((thrown) => this.#warn(model, thrown, 'no better weights could be looked for'))
      .finally(() => {
        this.#seeking.delete(model)
        // The plan may be another one since, which had to wait for its turn.
        if (isFirst && !this.#closed) this.#later(this.#round)
      })
  }

  #warn(model: string, thrown: unknown, what: string): void {
    const { message } = asBlockscaleError(thrown)
    if (!this.#closed) this.#options.log.warn({ model, message }, what)
  }

  /** @param again also where the choice is fused already, with the weights that it had before */
  async #fuse(model: string, again = false): Promise<void> {
    const { stage, files, inTurn } = this.#options
    const target = stage.live.get(model)?.target
    const manifest = this.#options.manifest(model)
    if (this.#closed || !target || !manifest) return
    let fused: Unit
    try {
      // Outside the turn: a swap does not wait until this is compiled.
      fused = await files.fuse(manifest, target.chain, target.inputSize)
    } catch (error) {
      if (!this.#closed) this.#unfusable.add(nameOf(target.chain))
      throw error
    }
    await inTurn(async () => {
      const now = stage.live.get(model)
      if (this.#closed || !now || (now.gear === 'fused' && !again) || !sameChoice(now.target, target)) return
      await this.#shift(model, target, fused)
    })
  }

  async #shift(model: string, target: Target, fused: Unit): Promise<void> {
    const { stage, limitBytes, tell } = this.#options
    const outcome = await shiftToFused(stage, model, fused, limitBytes())
    if (outcome === 'does-not-fit') {
      this.#tooLarge.add(nameOf(target.chain))
      tell({ kind: 'gear', model, gear: 'chain', why: 'the fused graph does not fit the memory limit' })
      return
    }
    const withWeights = fused.polished ? ', with weights that were made for it' : ''
    tell({ kind: 'gear', model, gear: 'fused', why: `the plan stayed and is fused${withWeights}` })
  }
}

const nameOf = (chain: Target['chain']): string => chain.map(({ key }) => key).join(' ')

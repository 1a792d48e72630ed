import { asBlockscaleError, type BlockscaleError, type ErrorCode } from '../base/index.ts'
import type { Deploying } from './deploying.ts'
import type { Change, Live, Workload } from './types.ts'
import { type Wishes, writeWishes } from './wishes.ts'

type Unserved = ReadonlyMap<string, { readonly workload: Workload; readonly why: string }>

/** What may be the fault of one model's files alone, so that the others can be served without it. */
const OF_ONE_MODEL: ReadonlySet<ErrorCode> = new Set([
  'ZOO_DAMAGED',
  'GRAPH_INVALID',
  'PLAN_INVALID',
  'MODEL_UNSUPPORTED',
  'ENGINE_FAILED',
])

export interface StartOptions {
  /** models that cannot be read, or are not there, and why */
  readonly faults: ReadonlyMap<string, BlockscaleError>
  /** whether a person waits for exactly this: then what no single model is to blame for is an error, and so is serving nothing */
  readonly isAsked: boolean
}

/**
 * What applications wish for: what of it is served, and what cannot be served at the moment.
 *
 * Both outlive the process, and what is not served is tried again with every change: a model that was damaged comes back when it is
 * mended.
 */
export class Standing {
  readonly #deploying: Deploying
  readonly #folder: string
  #unserved: Unserved = new Map()

  /** @param folder of the zoo, in which the wishes are kept */
  constructor(deploying: Deploying, folder: string) {
    this.#deploying = deploying
    this.#folder = folder
  }

  /** Served or not. */
  get workloads(): ReadonlyMap<string, Workload> {
    return this.#withUnserved(this.#deploying.wishes).workloads
  }

  get unserved(): Live['unserved'] {
    return [...this.#unserved].map(([id, { workload, why }]) => ({ id, model: workload.model, why }))
  }

  /**
   * @param wanted the new wishes from all that there are now
   * @throws what `Deploying.change` throws; then nothing has changed
   */
  async change(wanted: (now: Wishes) => Wishes, why: string): Promise<Change> {
    const left = this.#unserved
    // When it cannot be done with what was left out before, the second try says what else is wrong.
    if (left.size > 0) return this.#serve(wanted, why, new Map()).catch(() => this.#serve(wanted, why, left))
    return this.#serve(wanted, why, left)
  }

  /**
   * Serves what was wished for before the last stop and what is asked for now, without the models that are damaged.
   *
   * @throws when it was asked for: PlanInfeasible and all that no single model is to blame for
   */
  async start(wishes: Wishes, { faults: known, isAsked }: StartOptions): Promise<void> {
    const faults = new Map(known)
    const serve = () => this.#serve(() => wishes, 'the start', leftOut(wishes, faults))
    const refuse = (thrown: unknown): BlockscaleError => {
      const error = asBlockscaleError(thrown)
      if (isAsked && !OF_ONE_MODEL.has(error.code)) throw thrown
      return error
    }
    try {
      await serve()
    } catch (thrown) {
      const error = refuse(thrown)
      const models = [...wishes.workloads.values()].map(({ model }) => model).filter((model) => !known.has(model))
      for (const model of models) faults.set(model, error)
      // Where everything together is too much, which part of it to serve is not ours to say.
      for (const model of error.code === 'PLAN_INFEASIBLE' ? [] : new Set(models)) {
        faults.delete(model)
        await serve().catch((reason) => faults.set(model, refuse(reason)))
      }
      await serve()
    }
    const [fault] = faults.values()
    if (isAsked && fault && this.#deploying.wishes.workloads.size === 0) throw fault
  }

  /** Serves what is wanted, save for workloads that are left out unless they are no longer wanted, or wanted differently. */
  async #serve(wanted: (now: Wishes) => Wishes, why: string, left: Unserved): Promise<Change> {
    let still = left
    const served = (now: Wishes): Wishes => {
      const { budget, workloads } = wanted(this.#withUnserved(now))
      still = new Map([...left].filter(([id, { workload }]) => workloads.get(id) === workload))
      return { budget, workloads: new Map([...workloads].filter(([id]) => !still.has(id))) }
    }
    return this.#deploying.change(served, why, async (wishes) => {
      this.#unserved = still
      await writeWishes(this.#folder, this.#withUnserved(wishes))
    })
  }

  #withUnserved({ budget, workloads }: Wishes): Wishes {
    const others = [...this.#unserved].map(([id, { workload }]): [string, Workload] => [id, workload])
    return { budget, workloads: new Map([...workloads, ...others]) }
  }
}

function leftOut({ workloads }: Wishes, faults: ReadonlyMap<string, BlockscaleError>): Unserved {
  const left = [...workloads].filter(([, { model }]) => faults.has(model))
  const whyOf = ({ message, hint }: BlockscaleError) => (hint ? `${message}; ${hint}` : message)
  return new Map(left.map(([id, workload]) => [id, { workload, why: whyOf(faults.get(workload.model)!) }]))
}

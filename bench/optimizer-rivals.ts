import GLPK from 'glpk.js/node'
import highsModule, { type LegacyHighs } from 'highs'
import type { Problem, ProblemBlock } from '../src/optimizer/index.ts'

type Glpk = Awaited<ReturnType<typeof GLPK>>
type Highs = Pick<LegacyHighs, 'solve'>

export const openGlpk = (): Promise<Glpk> => GLPK()

/** Its types describe the CommonJS build, where the loader is a property `default`; the module that is loaded is the loader. */
export const openHighs = (): Promise<Highs> => (highsModule as unknown as typeof highsModule.default)()

/** What another solver says of a problem. */
export interface Rival {
  /** of its plan; undefined when it has none */
  readonly objective: number | undefined
  /** whether it claims that nothing is better (or, without a plan, that none exists) */
  readonly proven: boolean
}

interface Row {
  readonly name: string
  readonly terms: (readonly [coef: number, name: string])[]
  readonly kind: '=' | '<='
  readonly right: number
}

/** The textbook programme of a problem: a binary for each choice (on each core, where models are bound to one). */
export interface BinaryProgramme {
  readonly objective: readonly (readonly [coef: number, name: string])[]
  readonly rows: readonly Row[]
  readonly binaries: readonly string[]
}

/**
 * One binary `x` for each model, variant, block and choice, and core where the problem binds models to cores; a binary `v` for
 * each variant on each core. Memory is in kB, so that a byte is far above the solvers' tolerances.
 */
export function binaryProgramme(problem: Problem): BinaryProgramme {
  const goal = problem.objective ?? 'quality'
  const swapWeight = problem.swapWeight ?? (goal === 'quality' ? 1e-4 : 0)
  const share = problem.utilisation ?? 0.9
  const cores = coresOf(problem)
  const objective: [number, string][] = []
  const binaries: string[] = []
  const rows: Row[] = []
  const memory: [number, string][] = []
  const loads = cores.map((): [number, string][] => [])
  problem.models.forEach((model, m) => {
    const rate = model.rate ?? 0
    // A model that loads no core needs no place.
    const places = cores.length > 0 && rate > 0 ? cores.map((_, c) => c) : [0]
    const one: [number, string][] = []
    const latency: [number, string][] = []
    const loss: [number, string][] = []
    const variants: readonly { readonly blocks: readonly ProblemBlock[] }[] = model.variants ?? [
      { blocks: model.blocks ?? [] },
    ]
    const isPlaced = (own: readonly ProblemBlock[]) => own.some(({ current }) => current !== undefined)
    const anyPlaced = variants.some(({ blocks }) => isPlaced(blocks))
    variants.forEach(({ blocks }, k) => {
      // Beside a variant that is in place, one that is not would be loaded whole.
      const isNew = anyPlaced && !isPlaced(blocks)
      for (const c of places) {
        const v = `v${m}_${k}_${c}`
        binaries.push(v)
        one.push([1, v])
        blocks.forEach(({ choices, current }, b) => {
          const picked: [number, string][] = [[-1, v]]
          choices.forEach((choice, d) => {
            const x = `x${m}_${k}_${b}_${d}_${c}`
            binaries.push(x)
            picked.push([1, x])
            const isLoaded = current === undefined ? isNew : current !== choice.id
            const swap = swapWeight * (choice.swapMs ?? 0) + ((problem.swapWeightPerMB ?? 0) * choice.memoryBytes) / 1e6
            const own = {
              quality: (model.weight ?? 1) * choice.loss,
              latency: choice.latencyMs,
              memory: choice.memoryBytes,
              cpu: (rate * choice.latencyMs) / 1000,
            }[goal]
            objective.push([own + (isLoaded ? swap : 0), x])
            memory.push([choice.memoryBytes / 1000, x])
            latency.push([choice.latencyMs, x])
            loss.push([choice.loss, x])
            loads[c]?.push([rate * choice.latencyMs, x])
          })
          rows.push({ name: `p${m}_${k}_${b}_${c}`, terms: picked, kind: '=', right: 0 })
        })
      }
    })
    rows.push({ name: `o${m}`, terms: one, kind: '=', right: 1 })
    if (model.maxLatencyMs !== undefined)
      rows.push({ name: `l${m}`, terms: latency, kind: '<=', right: model.maxLatencyMs })
    if (model.minQuality !== undefined)
      rows.push({ name: `q${m}`, terms: loss, kind: '<=', right: model.quality - model.minQuality })
  })
  if (problem.memoryBytes !== undefined)
    rows.push({ name: 'memory', terms: memory, kind: '<=', right: problem.memoryBytes / 1000 })
  cores.forEach((part, c) => {
    rows.push({ name: `c${c}`, terms: loads[c]!, kind: '<=', right: 1000 * part * share })
  })
  return { objective, rows: rows.map(withoutZeros), binaries }
}

/** Parts of a core each; shared cores are as one. */
function coresOf({ cores, placement }: Problem): number[] {
  if (cores === undefined) return []
  if (placement === 'shared') return [cores]
  const parts = Array.from({ length: Math.floor(cores) }, () => 1)
  return cores > parts.length ? [...parts, cores - parts.length] : parts
}

const withoutZeros = (row: Row): Row => ({ ...row, terms: row.terms.filter(([coef]) => coef !== 0) })

/** glpk.js by itself: branch and bound on the textbook programme. */
export function plainGlpk(glpk: Glpk, programme: BinaryProgramme, seconds: number): Rival {
  const { objective, rows, binaries } = programme
  const varsOf = (terms: BinaryProgramme['objective']) => terms.map(([coef, name]) => ({ name, coef }))
  const { result } = glpk.solve(
    {
      name: 'plain',
      objective: { direction: glpk.GLP_MIN, name: 'cost', vars: varsOf(objective) },
      subjectTo: rows.map(({ name, terms, kind, right }) => ({
        name,
        vars: varsOf(terms),
        bnds: kind === '=' ? { type: glpk.GLP_FX, lb: right, ub: right } : { type: glpk.GLP_UP, lb: 0, ub: right },
      })),
      binaries: [...binaries],
    },
    { msglev: glpk.GLP_MSG_OFF, tmlim: seconds, presol: true },
  )
  const hasPlan = result.status === glpk.GLP_OPT || result.status === glpk.GLP_FEAS
  return {
    objective: hasPlan ? result.z : undefined,
    proven: result.status === glpk.GLP_OPT || result.status === glpk.GLP_NOFEAS,
  }
}

/** HiGHS on the textbook programme, to the very optimum. */
export function plainHighs(highs: Highs, programme: BinaryProgramme, seconds: number): Rival {
  const { objective, rows, binaries } = programme
  const sum = (terms: BinaryProgramme['objective']) =>
    terms
      .map(([coef, name], i) => `${coef < 0 ? '-' : '+'} ${Math.abs(coef)} ${name}${i % 8 === 7 ? '\n' : ''}`)
      .join(' ')
  const filled = rows.filter(({ terms }) => terms.length > 0)
  const text = [
    'Minimize',
    `cost: ${sum(objective) || `0 ${binaries[0]}`}`,
    'Subject To',
    ...filled.map(({ name, terms, kind, right }) => `${name}: ${sum(terms)} ${kind} ${right}`),
    'Binary',
    ...binaries,
    'End',
  ].join('\n')
  // A row without terms holds or not whatever is chosen.
  if (rows.some(({ terms, kind, right }) => terms.length === 0 && (kind === '=' ? right !== 0 : right < 0)))
    return { objective: undefined, proven: true }
  const solution = highs.solve(text, {
    time_limit: seconds,
    mip_rel_gap: 0,
    mip_abs_gap: 0,
    output_flag: false,
  })
  if (solution.Status === 'Infeasible') return { objective: undefined, proven: true }
  const proven = solution.Status === 'Optimal'
  const hasPlan = proven || (solution.Status === 'Time limit reached' && Number.isFinite(solution.ObjectiveValue))
  return { objective: hasPlan ? solution.ObjectiveValue : undefined, proven }
}

import { readFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { type Command, Option } from 'commander'
import { BlockscaleError, formatBytes, isName } from '../../base/index.ts'
import { type Plan, type PlannedModel, type Problem, solve } from '../../optimizer/index.ts'
import { openProfiles, thisDevice } from '../../profiles/index.ts'
import { openPlanner, PlanInfeasible } from '../../runtime/index.ts'
import { openZoo, type Zoo } from '../../zoo/index.ts'
import {
  bytes,
  duration,
  type ForModel,
  forModels,
  oneOf,
  option,
  positive,
  valuesFor,
  withExamples,
  withJson,
  withZoo,
} from '../options.ts'
import { inWords, polishModels } from '../polishing.ts'
import type { Shell } from '../shell.ts'
import { idOf } from '../subject.ts'
import { figure, tableOf } from '../table.ts'
import { verifyPlan } from '../verify-plan.ts'

const objectives = ['quality', 'latency', 'memory', 'cpu'] as const

interface PlanFlags {
  readonly zoo: string
  readonly json?: true
  readonly problem?: string
  readonly nearest?: true
  readonly memory?: number
  readonly cores?: number
  readonly latency?: readonly ForModel<number>[]
  readonly rate?: readonly ForModel<number>[]
  readonly weight?: readonly ForModel<number>[]
  readonly minQuality?: readonly ForModel<number>[]
  readonly objective?: (typeof objectives)[number]
  readonly verify?: true
  readonly polish?: true
  readonly distill?: number
  readonly images?: string
}

/** `blockscale plan` */
export function addPlan(program: Command, shell: Shell): void {
  const perModel = (parse: (name: string) => (text: string) => number) => (name: string) => forModels(parse(name))
  const command = program
    .command('plan')
    .description('the best choice of descendants for one or several models that share the limits')
    .argument('[models...]', 'models that are built')
    .addOption(option('--memory <size>', 'for all models together, such as 64MB', bytes))
    .addOption(option('--latency <time>', 'of one picture: 20ms for every model, m=20ms for one', perModel(duration)))
    .addOption(option('--rate <n>', 'pictures per second: 15, or m=15', perModel(positive)))
    .addOption(option('--weight <n>', 'how much the quality of a model counts: m=2', perModel(positive)))
    .addOption(option('--min-quality <q>', 'in the task’s own scale: m=0.7', perModel(positive)))
    .addOption(
      option('--objective <what>', `${objectives.join(', ')}; quality unless given`, (name) => oneOf(name, objectives)),
    )
    .addOption(option('--cores <n>', 'cores that may be used; all of this machine unless given', positive))
    .option('--nearest', 'where nothing fits, the plan that breaks by the least what stands in the way')
    .option('--verify', 'measure the plan: fused, on pictures that no descendant was made or chosen on')
    .option('--polish', 'better weights for exactly this plan, solved again in seconds and kept where they are better')
    .addOption(option('--distill <time>', 'with --polish: learn from the original as well, such as 2m', duration))
    .option('--images <dir>', 'pictures for --verify and --polish; those of the build unless given')
    .addOption(
      new Option('--problem <file>', 'solve a problem file and touch nothing else').conflicts([
        'memory',
        'latency',
        'rate',
        'weight',
        'minQuality',
        'objective',
        'cores',
        'verify',
        'polish',
        'distill',
        'images',
      ]),
    )
    .action(async (models: string[], options: PlanFlags) => {
      const plan =
        options.problem === undefined
          ? await planOf(shell, models, options)
          : await solveFile(options.problem, models, options.nearest)
      if (options.json) shell.json(inOrder(plan))
      else if (plan.models.length > 0) printPlan(shell, plan)
      if (plan.status === 'infeasible') throw new PlanInfeasible(plan)
    })
  withExamples(withJson(withZoo(command)), [
    ['plan signs --memory 700kB', 'the best quality in 700 kB'],
    ['plan signs sign-detector --memory 2MB --latency 50ms --rate sign-detector=15', 'two models that share a machine'],
    ['plan signs --objective memory --min-quality 0.7', 'the smallest that is good enough'],
    ['plan signs --latency 5ms --polish --json > plan.json', 'with better weights for what it chose'],
    ['plan signs --memory 700kB --json > plan.json', 'for --plan of run, eval and export'],
    ['plan signs --memory 700kB --nearest', 'or where nothing fits, the plan that comes nearest'],
    ['plan --problem problem.json', 'the optimizer alone'],
  ])
}

async function solveFile(path: string, models: readonly string[], nearest: boolean | undefined): Promise<Plan> {
  if (models.length > 0) {
    throw new BlockscaleError('USAGE', 'a problem file brings its own models', 'give either models or --problem')
  }
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    throw new BlockscaleError('NOT_FOUND', `cannot read the problem ${path}`, 'give the path of a JSON file', { cause })
  }
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (cause) {
    throw new BlockscaleError('PROBLEM_INVALID', `${path} is not JSON: ${(cause as Error).message}`)
  }
  return solve(json as Problem, { nearest })
}

async function planOf(shell: Shell, names: readonly string[], options: PlanFlags): Promise<Plan> {
  const models = names.map(idOf)
  if (models.length === 0) {
    throw new BlockscaleError(
      'USAGE',
      'no model is named',
      'name one or several built models, or a file with --problem',
    )
  }
  const twice = models.find((model, i) => models.indexOf(model) !== i)
  if (twice !== undefined) throw new BlockscaleError('USAGE', `${twice} is named twice`, 'name each model once')
  if (options.images !== undefined && !options.verify && !options.polish) {
    throw new BlockscaleError('USAGE', '--images are pictures for --verify and --polish', 'add one of them')
  }
  if (options.distill !== undefined && !options.polish) {
    throw new BlockscaleError('USAGE', '--distill is a part of --polish', 'add --polish')
  }
  const [latency, rate, weight, minQuality] = [
    valuesFor('--latency', options.latency, models),
    valuesFor('--rate', options.rate, models),
    valuesFor('--weight', options.weight, models),
    valuesFor('--min-quality', options.minQuality, models),
  ]
  const zoo = openZoo(options.zoo)
  for (const model of models) await refuseUnbuilt(zoo, model)
  const store = openProfiles(zoo.profilesPath, { readOnly: !options.verify })
  const planner = openPlanner(zoo, store, thisDevice().key)
  try {
    const { plan: planned, manifests } = await planner.plan({
      wishes: models.map((model) => ({
        model,
        maxLatencyMs: latency(model),
        rate: rate(model) ?? 0,
        weight: weight(model) ?? 1,
        minQuality: minQuality(model),
      })),
      budget: { memoryBytes: options.memory, cores: options.cores },
      workers: Math.ceil(options.cores ?? availableParallelism()),
      current: new Map(),
      ...(options.objective ? { objective: options.objective } : {}),
      ...(options.nearest ? { nearest: true } : {}),
    })
    if (planned.status === 'infeasible') return planned
    if (options.verify || options.polish) refuseStreaming(planned)
    const plan = options.polish
      ? await polishModels(shell, zoo, planned, manifests, { images: options.images, distilMs: options.distill })
      : planned
    if (!options.verify) return plan
    const verified = await verifyPlan(plan, manifests, {
      zoo,
      store,
      images: options.images,
      progress: shell.progress,
      objective: options.objective ?? 'quality',
      memoryBytes: options.memory,
      cores: options.cores,
    })
    for (const broken of brokenLimits(verified, latency, minQuality)) shell.note(broken)
    return verified
  } finally {
    await planner.close()
    store.close()
  }
}

/** Plans are measured, and polished, as fused wholes; what is streamed never is one. */
function refuseStreaming({ models }: Plan): void {
  const model = models.find(({ streaming }) => streaming)?.model
  if (model === undefined) return
  throw new BlockscaleError(
    'USAGE',
    `${model} fits the memory only streamed, block by block, and --verify and --polish are for wholes`,
    'give more memory, or leave them out: `blockscale serve` measures what it streams',
  )
}

/** What was asked for and is not kept when the plan is measured: predictions can be wrong. */
function brokenLimits(
  { models }: Plan,
  latency: (model: string) => number | undefined,
  minQuality: (model: string) => number | undefined,
): string[] {
  return models.flatMap(({ model, verified }) => {
    const [most, least] = [latency(model), minQuality(model)]
    return [
      ...(verified && least !== undefined && verified.quality < least
        ? [`warning: ${model} measures a quality of ${figure(verified.quality)}; ${figure(least)} is asked for`]
        : []),
      ...(verified && most !== undefined && verified.latencyMs > most
        ? [`warning: ${model} measures ${figure(verified.latencyMs)} ms; at most ${figure(most)} ms are asked for`]
        : []),
    ]
  })
}

/** Before the database is opened: that a model is not built is what a person needs to hear first. */
async function refuseUnbuilt(zoo: Zoo, model: string): Promise<void> {
  if (isName(model)) await zoo.manifest(model as Parameters<Zoo['manifest']>[0])
  else throw new BlockscaleError('MODEL_UNKNOWN', `"${model}" cannot be the name of a model`)
}

/** The fields as a person looks for them. */
const inOrder = ({ status, ...plan }: Plan): Plan => ({
  status,
  ...plan,
  models: plan.models.map(({ model, variant, inputSize, choices, predicted, verified, polished, ...rest }) => ({
    model,
    ...(variant === undefined ? {} : { variant }),
    ...(inputSize === undefined ? {} : { inputSize }),
    choices,
    predicted,
    ...(verified === undefined ? {} : { verified }),
    ...(polished === undefined ? {} : { polished }),
    ...rest,
  })),
})

function printPlan(shell: Shell, plan: Plan): void {
  const isVerified = plan.models.some(({ verified }) => verified)
  const figures = ['quality', 'at least', 'ms', 'memory']
  const columns = [
    { name: 'model' },
    { name: 'input' },
    ...figures.map((name) => ({ name, right: true })),
    ...(isVerified ? ['measured quality', 'measured ms', 'measured memory'] : []).map((name) => ({
      name,
      right: true,
    })),
    { name: 'choices', width: Math.max(40, shell.columns - (isVerified ? 110 : 65)) },
  ]
  shell.line(
    tableOf(
      columns,
      plan.models.map((model) => rowOf(model, isVerified)),
      shell.style,
    ),
  )
  const { totals, binding, status, gap } = plan
  shell.line()
  for (const { model, polished } of plan.models) if (polished) shell.line(`${model}: ${inWords(polished)}`)
  for (const { model, streaming } of plan.models) {
    if (!streaming) continue
    const [window, speed] = [formatBytes(streaming.windowBytes), formatBytes(streaming.readBytesPerSecond)]
    shell.line(
      `${model} does not fit whole: blocks with ~ are read for each picture into ${window}, at ${speed} a second`,
    )
  }
  if (totals) {
    const busy = totals.cores > 0 ? ` and ${figure(totals.cores)} cores busy` : ''
    shell.line(`together ${formatBytes(totals.memoryBytes)}${busy}`)
  }
  shell.line(binding.length > 0 ? `held back by ${binding.join(', ')}` : 'no limit holds it back')
  if (status === 'infeasible') return
  shell.line(
    status === 'optimal'
      ? 'no better plan exists, going by the profiles'
      : `a better plan by ${figure(100 * (gap ?? 0))} % is not ruled out`,
  )
}

function rowOf({ model, variant, inputSize, predicted, verified, choices }: PlannedModel, isVerified: boolean) {
  return [
    model,
    inputSize?.join('×') ?? variant,
    predicted.quality,
    predicted.qualityLow,
    predicted.latencyMs,
    formatBytes(predicted.memoryBytes),
    ...(isVerified ? [verified?.quality, verified?.latencyMs, verified && formatBytes(verified.memoryBytes)] : []),
    choices.map(({ block, descendant, streamed }) => `${block}=${streamed ? '~' : ''}${descendant}`).join(' '),
  ]
}

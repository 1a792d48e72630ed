/**
 * The main job, from outside: one service with three models under one memory limit answers pictures rightly; its budget is
 * halved, twice, while pictures come; only the blocks that differ are exchanged, and every picture gets its answer.
 *
 *     npx tsx bench/main-job.ts <zoo> <assets> [models]
 *
 * The zoo holds the models, as `build` makes them; mobilenetv2,ultraface-rfb-320,nanodet-m-320 unless others are named. Ends
 * with 1 where one of this fails.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { median, writeResult } from './result.ts'

const [zoo, assets, chosen] = process.argv.slice(2)
if (!zoo || !assets) throw new Error('usage: npx tsx bench/main-job.ts <zoo> <assets> [models]')
const MODELS = (chosen ?? 'mobilenetv2,ultraface-rfb-320,nanodet-m-320').split(',')
const POSTERS_EACH = 2
const BEFORE_MS = 2_000
const AFTER_MS = 6_000

type Corners = readonly [number, number, number, number]
interface Box {
  readonly label: string
  readonly box: Corners
}
interface Sample {
  readonly bytes: Uint8Array
  readonly truth: number | readonly Box[]
}
interface Answer {
  readonly labels?: readonly { readonly index: number }[]
  readonly boxes?: readonly Box[]
  readonly plan: string
}
interface LivePlan {
  readonly totals: { readonly memoryBytes: number }
  readonly models: readonly {
    readonly model: string
    readonly inputSize: readonly number[]
    readonly blocks: readonly { readonly id: string; readonly descendant: string; readonly bytes: number }[]
  }[]
}
interface Change {
  readonly swap: {
    readonly models: readonly { readonly model: string; readonly changed: readonly { readonly block: string }[] }[]
    readonly bytes: number
    readonly ms: number
  } | null
}

const every = <T>(all: readonly T[], count: number): T[] =>
  Array.from(
    { length: Math.min(count, all.length) },
    (_, i) => all[Math.floor((i * all.length) / Math.min(count, all.length))]!,
  )

function imagenet(count: number): Sample[] {
  const classes = readFileSync(join(assets!, 'images/imagenet-wnids.txt'), 'utf8').trim().split('\n')
  return classified('imagenet-validation', count, classes)
}

const cifar = (count: number): Sample[] =>
  classified('cifar10-validation', count, readdirSync(join(assets!, 'images/cifar10-validation')).sort())

/** Pictures of all classes in turn. */
function classified(name: string, count: number, classes: readonly string[]): Sample[] {
  const folder = join(assets!, 'images', name)
  const folders = readdirSync(folder)
    .sort()
    .map((each) => ({
      truth: classes.indexOf(each),
      files: readdirSync(join(folder, each))
        .sort()
        .map((file) => join(folder, each, file)),
    }))
  const all: { truth: number; file: string }[] = []
  for (let i = 0; all.length < count && folders.some(({ files }) => i < files.length); i++) {
    for (const { truth, files } of folders) if (files[i] !== undefined) all.push({ truth, file: files[i]! })
  }
  return all.slice(0, count).map(({ truth, file }) => ({ truth, bytes: readFileSync(file) }))
}

function boxed(name: string, count: number): Sample[] {
  const folder = join(assets!, 'images', name)
  const coco = JSON.parse(readFileSync(join(folder, 'instances.json'), 'utf8'))
  const labels = new Map<number, string>(
    coco.categories.map((each: { id: number; name: string }) => [each.id, each.name]),
  )
  return every(coco.images as { id: number; file_name: string }[], count).map(({ id, file_name }) => ({
    bytes: readFileSync(join(folder, file_name)),
    truth: coco.annotations
      .filter((each: { image_id: number }) => each.image_id === id)
      .map(({ category_id, bbox: [x, y, w, h] }: { category_id: number; bbox: number[] }) => ({
        label: labels.get(category_id),
        box: [x, y, x! + w!, y! + h!],
      })),
  }))
}

const known: Readonly<Record<string, () => readonly Sample[]>> = {
  mobilenetv2: () => imagenet(100),
  'cifar10-resnet20': () => cifar(300),
  'ultraface-rfb-320': () => boxed('faces', 9),
  'nanodet-m-320': () => boxed('coco128', 60),
}
const samples = new Map(
  MODELS.map((model) => {
    const load = known[model]
    if (!load) throw new Error(`${model} is none of ${Object.keys(known).join(', ')}`)
    return [model, load()] as const
  }),
)

const faults: string[] = []
const service = spawn(
  process.execPath,
  [
    ...['--import', import.meta.resolve('tsx'), fileURLToPath(new URL('../src/cli/main.ts', import.meta.url))],
    ...['serve', '--zoo', zoo, '--models', MODELS.join(','), '--port', '0', '--json', '--log', 'warn'],
  ],
  { stdio: ['ignore', 'pipe', 'inherit'] },
)
const url = await new Promise<string>((resolve, reject) => {
  let told = ''
  service.stdout.on('data', (text) => {
    told += text
    if (told.trimEnd().endsWith('}')) resolve(JSON.parse(told).url)
  })
  service.once('exit', (code) => reject(new Error(`the service ended with ${code}`)))
})

async function ask<T>(method: string, path: string, body?: unknown): Promise<T> {
  const headers = { 'content-type': 'application/json' }
  const response = await fetch(url + path, { method, headers, body: body === undefined ? null : JSON.stringify(body) })
  const json = await response.json()
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${JSON.stringify(json)}`)
  return json as T
}

async function post(model: string, { bytes }: Sample): Promise<{ status: number; answer: Answer }> {
  const response = await fetch(`${url}/v1/models/${model}/predict`, {
    method: 'POST',
    headers: { 'content-type': 'image/jpeg' },
    body: new Blob([bytes as Uint8Array<ArrayBuffer>]),
  })
  return { status: response.status, answer: (await response.json()) as Answer }
}

/** Share of classes that are right, or of true boxes that are found (IoU ≥ 0.5, same label), with false boxes beside it. */
async function rightness(model: string): Promise<{ right: number; falseBoxes?: number }> {
  let [right, wanted, wrong, boxes] = [0, 0, 0, false]
  for (const sample of samples.get(model)!) {
    const { answer } = await post(model, sample)
    if (typeof sample.truth === 'number') {
      wanted++
      right += Number(answer.labels?.[0]?.index === sample.truth)
      continue
    }
    boxes = true
    const free = [...sample.truth]
    wanted += free.length
    for (const found of answer.boxes ?? []) {
      const at = free.findIndex((truth) => truth.label === found.label && overlap(truth.box, found.box) >= 0.5)
      if (at < 0) wrong++
      else {
        free.splice(at, 1)
        right++
      }
    }
  }
  return { right: round(right / wanted), ...(boxes ? { falseBoxes: wrong } : {}) }
}

function overlap(a: Corners, b: Corners): number {
  const side = (low: number, high: number) => Math.max(0, Math.min(a[high]!, b[high]!) - Math.max(a[low]!, b[low]!))
  const both = side(0, 2) * side(1, 3)
  const area = (box: Corners) => (box[2] - box[0]) * (box[3] - box[1])
  return both / (area(a) + area(b) - both)
}

const round = (value: number): number => Math.round(value * 1000) / 1000
const wait = (ms: number) => new Promise((done) => setTimeout(done, ms))

/** Posts pictures to all models without a pause while `change` is made, and for a while before and after. */
async function whilePosting<T>(change: () => Promise<T>) {
  const posts: { model: string; status: number; ms: number; at: number }[] = []
  let ended = false
  const poster = async (model: string, first: number) => {
    const pictures = samples.get(model)!
    for (let i = first; !ended; i++) {
      const at = performance.now()
      const { status } = await post(model, pictures[i % pictures.length]!)
      posts.push({ model, status, ms: performance.now() - at, at })
    }
  }
  const posters = MODELS.flatMap((model) => Array.from({ length: POSTERS_EACH }, (_, k) => poster(model, 7 * k)))
  for (const each of posters) each.catch(() => {}) // they are awaited below
  const timed = async () => {
    await wait(BEFORE_MS)
    const began = performance.now()
    const result = await change()
    const until = performance.now()
    await wait(AFTER_MS)
    return { result, began, until }
  }
  // When the change fails, its reason is told, and not that of a post to a service that is being stopped.
  const { result, began, until } = await timed().finally(() => {
    ended = true
    return Promise.allSettled(posters)
  })
  await Promise.all(posters)
  const during = posts.filter(({ at, ms }) => at + ms > began && at < until)
  return { result, posts, during, changeMs: until - began }
}

/** Blocks that two plans choose otherwise. */
function differing(from: LivePlan, to: LivePlan): string[] {
  const choices = ({ models }: LivePlan) =>
    models.flatMap(({ model, blocks }) => blocks.map(({ id, descendant }) => [`${model}/${id}`, descendant] as const))
  const before = new Map(choices(from))
  return choices(to).flatMap(([block, descendant]) => (before.get(block) === descendant ? [] : [block]))
}

const rows: Record<string, unknown>[] = []
async function describe(state: string, more: Record<string, unknown>): Promise<LivePlan> {
  const plan = await ask<LivePlan>('GET', '/v1/plan')
  const right = Object.fromEntries(await Promise.all(MODELS.map(async (model) => [model, await rightness(model)])))
  const totalBlocks = plan.models.reduce((sum, { blocks }) => sum + blocks.length, 0)
  const descendants = plan.models.reduce(
    (sum, { blocks }) => sum + blocks.filter(({ descendant }) => descendant !== 'original').length,
    0,
  )
  const inputSizes = plan.models.map(({ inputSize }) => inputSize.join('×')).join(' ')
  const plannedMB = round(plan.totals.memoryBytes / 1e6)
  rows.push({ state, plannedMB, descendants: `${descendants} of ${totalBlocks}`, inputSizes, ...more, right })
  return plan
}

try {
  const free = await ask<LivePlan>('POST', '/v1/plan', { budget: {} })
  let limit = Math.ceil(1.02 * free.totals.memoryBytes)
  await ask('PUT', '/v1/budget', { memoryBytes: limit })
  let plan = await describe('all that is wanted', { limitMB: round(limit / 1e6) })
  for (const state of ['half', 'a quarter']) {
    limit = Math.floor(limit / 2)
    const { result, posts, during, changeMs } = await whilePosting(() =>
      ask<Change>('PUT', '/v1/budget', { memoryBytes: limit }),
    )
    const unanswered = posts.filter(({ status }) => status !== 200)
    if (unanswered.length > 0) faults.push(`${state}: ${unanswered.length} posts got ${unanswered[0]!.status}`)
    const told =
      result.swap?.models.flatMap(({ model, changed }) => changed.map(({ block }) => `${model}/${block}`)) ?? []
    const next = await describe(state, {
      limitMB: round(limit / 1e6),
      posted: posts.length,
      unanswered: unanswered.length,
      postedDuringChange: during.length,
      medianMs: round(median(posts.map(({ ms }) => ms))),
      slowestMs: round(Math.max(...posts.map(({ ms }) => ms))),
      putMs: round(changeMs),
      swapMs: round(result.swap?.ms ?? Number.NaN),
      swappedBlocks: told.length,
      swappedKB: Math.round((result.swap?.bytes ?? 0) / 1000),
    })
    const expected = differing(plan, next).sort().join(' ')
    if (expected === '') faults.push(`${state}: the plan did not change`)
    if (expected !== told.sort().join(' ')) {
      faults.push(`${state}: swapped ${told.join(' ')}, but ${expected} differ`)
    }
    if (next.totals.memoryBytes > limit) faults.push(`${state}: planned above the limit`)
    plan = next
  }
} finally {
  service.kill('SIGINT')
  await once(service, 'exit')
}
for (const { right, ...row } of rows) console.log(row, right)
if (faults.length > 0) {
  console.error(faults.join('\n'))
  process.exit(1)
}
await writeResult('main-job', rows, `npx tsx bench/main-job.ts <zoo> <assets> ${MODELS.join(',')}`)

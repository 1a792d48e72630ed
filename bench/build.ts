/**
 * What the offline stage takes: time, peak memory of the process with its worker threads, and how many models come of it.
 * Beside each step's time is the CPU time of this process; what costs are measured in a process apart, on one core.
 *
 *     npx tsx bench/build.ts <model.onnx or package folder> <new zoo> <images> [validation]
 */
import { modelId } from '../src/base/index.ts'
import { build } from '../src/pipeline/index.ts'
import { loadCard } from '../src/tasks/index.ts'
import { findModel, openZoo } from '../src/zoo/index.ts'
import { writeResult } from './result.ts'

const [name, zooDir, images, validation] = process.argv.slice(2)
if (!name || !zooDir || !images)
  throw new Error('usage: npx tsx bench/build.ts <model> <new zoo> <images> [validation]')

// A bare file of a model in the catalogue is taken with the catalogue's card.
const found = await findModel(name, { zoo: zooDir })
const card = found.card ?? (await loadCard(`model-zoo/catalog/${found.id}.json`).catch(() => undefined))
const steps: { step: string; seconds: number; cpuSeconds: number }[] = []
const cpuSeconds = () => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}
const tenths = (value: number) => Math.round(value * 10) / 10
let [step, since, cpuSince] = ['', Date.now(), 0]
const next = (to: string) => {
  const cpu = cpuSeconds()
  if (step) steps.push({ step, seconds: tenths((Date.now() - since) / 1000), cpuSeconds: tenths(cpu - cpuSince) })
  ;[step, since, cpuSince] = [to, Date.now(), cpu]
}
const report = await build(
  openZoo(zooDir),
  { ...found, id: modelId(found.id), card },
  {
    images,
    validation,
    progress: { step: next, advance() {}, note() {} },
  },
)
next('')
const summary = {
  model: found.id,
  seconds: Math.round(report.ms / 1000),
  cpuSeconds: Math.round(cpuSeconds()),
  peakMemoryMB: Math.round(process.resourceUsage().maxRSS / 1000),
  blocks: report.manifest.blocks.length,
  descendants: report.manifest.blocks.map((block) => block.descendants.length).join(' '),
  options: report.options,
  inputSizes: report.manifest.sizes.map((size) => size.join('×')).join(' '),
  metric: report.metric,
  originalQuality: report.quality,
  stitchedError: report.manifest.stitchedError,
}
console.table(steps)
console.log(summary)
await writeResult(
  `build-${found.id}`,
  [summary, ...steps],
  `npx tsx bench/build.ts ${found.id}.onnx <new zoo> <images> <validation>`,
)

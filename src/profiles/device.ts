import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { arch, cpus, platform, release, totalmem } from 'node:os'
import { runtimeVersion } from '../engine/index.ts'
import type { Device } from './rows.ts'

/** Instruction sets that ONNX Runtime's kernels look for, so that a person can read why two devices differ. */
const TELLING =
  /^(sse4_1|avx|avx2|fma|f16c|avx512f|avx512bw|avx512_vnni|avx512_bf16|avx_vnni|amx_.*|asimd|asimddp|asimdhp|i8mm|bf16|sve2?)$/

let known: Device | undefined

/** This machine. The key covers what an optimised model is bound to: CPU, all its features, and the ONNX Runtime version. */
export function thisDevice(): Device {
  known ??= describe()
  return known
}

export const deviceKey = (): string => thisDevice().key

function describe(): Device {
  const cores = cpus()
  const { model, flags } = readCpu(cores[0]?.model.trim() || arch())
  const runtime = runtimeVersion()
  const identity = createHash('sha256')
    .update(JSON.stringify([platform(), arch(), model, flags, runtime]))
    .digest('hex')
  return {
    key: `${arch()}-${identity.slice(0, 12)}`,
    cpu: model,
    features: flags.filter((flag) => TELLING.test(flag)).join(' '),
    cores: cores.length,
    memoryBytes: totalmem(),
    platform: `${platform()} ${release()}`,
    runtimeVersion: runtime,
  }
}

/** Linux names the features that the kernel lets programs use; elsewhere the model's name has to do. */
function readCpu(fallback: string): { model: string; flags: string[] } {
  let text = ''
  try {
    text = readFileSync('/proc/cpuinfo', 'utf8')
  } catch {
    return { model: fallback, flags: [] }
  }
  const flags = new Set<string>()
  for (const match of text.matchAll(/^(?:flags|Features)\s*:\s*(.*)$/gm)) {
    for (const flag of match[1]!.split(/\s+/)) if (flag) flags.add(flag)
  }
  return { model: /^model name\s*:\s*(.+)$/m.exec(text)?.[1]?.trim() ?? fallback, flags: [...flags].sort() }
}

import { readFileSync } from 'node:fs'
import { arch, cpus, platform } from 'node:os'
import { sha256 } from '../base/index.ts'
import { runtimeVersion } from './session.ts'

/**
 * Names everything that compiled files and measurements depend on: ONNX Runtime's version and the CPU with its features.
 *
 *     deviceKey() // → 'ort1.30.0-linux-x64-3f29c1ab'
 */
export function deviceKey(): string {
  return `ort${runtimeVersion()}-${platform()}-${arch()}-${sha256(cpuFeatures()).slice(0, 8)}`
}

/** The CPU's model and, where the system lists them, its features. */
export function cpuFeatures(): string {
  const model = cpus()[0]?.model ?? 'unknown'
  try {
    const flags = /^(?:flags|Features)\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? ''
    return `${model} ${flags.split(' ').sort().join(' ')}`
  } catch {
    return model
  }
}

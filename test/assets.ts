import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe } from 'vitest'

const candidate = process.env.BLOCKSCALE_ASSETS ?? fileURLToPath(new URL('../../shared/assets', import.meta.url))

/** The assets folder (real models and pictures), where this machine has it. */
export const assets: string | undefined = existsSync(`${candidate}/models`) ? candidate : undefined

/** Tests on real models; without the assets folder they are reported as skipped, by name. */
export function describeWithAssets(name: string, tests: (assets: string) => void): void {
  describe.skipIf(!assets)(name, () => tests(assets ?? ''))
}

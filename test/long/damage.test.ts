import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { expectDetected, openDamagedZoo } from '../runtime/damaging.ts'

const PLACES = 200

test(`${PLACES} random places of a zoo and its device cache damaged, one after another`, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'blockscale-damage-'))
  const zoo = await openDamagedZoo(folder)
  try {
    const served = await expectDetected(zoo, PLACES, 2)
    console.log(`${PLACES} places damaged: ${served} times served from what was whole, the rest refused by name`)
    expect(served).toBeGreaterThan(PLACES / 4)
  } finally {
    await zoo.runtime.close()
    await rm(folder, { recursive: true, force: true })
  }
})

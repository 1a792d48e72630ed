import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Plan } from '../../src/optimizer/index.ts'
import { buildTinyZoo, CLASSIFIER } from '../server/tiny-zoo.ts'
import { call } from './calling.ts'
import { temporaryFolder, writePictures } from './tiny-model.ts'

const folder = await temporaryFolder()
const images = join(folder, 'pictures')
let zoo: string
let remove: () => Promise<void>

beforeAll(async () => {
  const built = await buildTinyZoo()
  zoo = built.dir
  remove = built.remove
  await writePictures(images, 60)
})
afterAll(() => remove())

const inZoo = (...argv: string[]) => call(...argv, '--zoo', zoo)

interface Evaluated {
  readonly fidelity: number
  readonly quality: number
}

describe('plan --polish', () => {
  test('says what it gains, and run, eval and export of that plan use it', async () => {
    const { code, stdout, json } = await inZoo(
      ...['plan', CLASSIFIER, '--memory', '500kB', '--polish', '--images', images, '--json'],
    )
    expect(code).toBe(0)
    const [planned] = json<Plan>().models
    expect(planned?.polished).toMatchObject({ how: ['sequence'], heldOut: expect.any(Number) })
    expect(planned!.polished!.after.divergence).toBeLessThan(planned!.polished!.before.divergence)
    const polished = join(folder, 'polished.json')
    await writeFile(polished, stdout)

    const out = (name: string) => join(folder, `${name}.onnx`)
    const written = async (name: string, ...more: string[]) =>
      (await inZoo('export', CLASSIFIER, '-o', out(name), ...more, '--json')).json<{ sha256: string }>().sha256
    const plain = join(folder, 'plain.json')
    await writeFile(plain, (await inZoo('plan', CLASSIFIER, '--memory', '500kB', '--json')).stdout)
    const [with_, without, asked] = [
      await written('with', '--plan', polished),
      await written('without', '--plan', plain),
      await written('asked', '--plan', plain, '--polish'),
    ]
    expect(with_).toBe(asked)
    expect(with_).not.toBe(without)
    const evaluated = await inZoo('eval', CLASSIFIER, '--images', images, '--plan', polished, '--json')
    expect(evaluated.code).toBe(0)
    expect(evaluated.json<Evaluated>().fidelity).toBeGreaterThan(0.9)
    expect((await inZoo('run', CLASSIFIER, join(images, '000.png'), '--plan', polished)).code).toBe(0)
  })

  test('says the same to people', async () => {
    const { code, stdout } = await inZoo('plan', CLASSIFIER, '--memory', '500kB', '--polish', '--images', images)
    expect(code).toBe(0)
    expect(stdout).toMatch(/polished by sequence: divergence [\d.e-]+ → [\d.e-]+, agreement .* pictures held out/)
  })

  test('a plan whose weights are in another zoo is refused with what to do', async () => {
    const other = await buildTinyZoo()
    try {
      const { code, stderr } = await call(
        ...['eval', CLASSIFIER, '--images', images, '--plan', join(folder, 'polished.json'), '--zoo', other.dir],
      )
      expect(code).not.toBe(0)
      expect(stderr).toMatch(/was polished, and its weights are not in[\s\S]*plan --polish/)
    } finally {
      await other.remove()
    }
  })

  test('what belongs together is asked for together', async () => {
    expect((await inZoo('plan', CLASSIFIER, '--images', images)).stderr).toContain('--verify and --polish')
    expect((await inZoo('plan', CLASSIFIER, '--distill', '1s')).stderr).toContain('add --polish')
    expect((await inZoo('export', CLASSIFIER, '--choose', 'b1=slim', '-o', 'x.onnx', '--images', images)).code).toBe(2)
  })
})

describe('adapt', () => {
  test('keeps what agrees better with the original, and says so', async () => {
    const { code, json } = await inZoo('adapt', CLASSIFIER, '--images', images, '--choose', 'b1=slim', '--json')
    expect(code).toBe(0)
    const { kept, before, after } = json<{ kept: boolean } & Record<'before' | 'after', { divergence: number }>>()
    if (kept) expect(after.divergence).toBeLessThan(before.divergence)
    else expect(after).toEqual(before)
  })

  test('needs a plan: one that is named, or one that is written down', async () => {
    const { code, stderr } = await inZoo('adapt', CLASSIFIER, '--images', images)
    expect(code).toBe(2)
    expect(stderr).toMatch(/no plan of tiny-classifier is written down[\s\S]*--plan/)
    const original = await inZoo('adapt', CLASSIFIER, '--images', images, '--choose', 'b1=original')
    expect(original.stderr).toContain('agrees with itself')
  })
})

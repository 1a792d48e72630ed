import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Plan } from '../../src/optimizer/index.ts'
import { buildTinyZoo, CLASSIFIER, DETECTOR } from '../server/tiny-zoo.ts'
import { call } from './calling.ts'

let zoo: string
let folder: string
let remove: () => Promise<void>

beforeAll(async () => {
  const built = await buildTinyZoo()
  zoo = built.dir
  remove = built.remove
  folder = await mkdtemp(join(tmpdir(), 'blockscale-plan-'))
})
afterAll(async () => {
  await remove()
  await rm(folder, { recursive: true, force: true })
})

const plan = (...argv: string[]) => call('plan', ...argv, '--zoo', zoo)
const written = async (name: string, content: unknown): Promise<string> => {
  const path = join(folder, name)
  await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content))
  return path
}

describe('plan', () => {
  test('prints what the contract names, for several models within one memory', async () => {
    const { code, json } = await plan(CLASSIFIER, DETECTOR, '--memory', '1.9MB', '--rate', `${DETECTOR}=15`, '--json')
    expect(code).toBe(0)
    const made = json<Plan>()
    expect(made.status).toBe('optimal')
    expect(made.gap).toBe(0)
    expect(made.models.map(({ model }) => model)).toEqual([CLASSIFIER, DETECTOR])
    for (const each of made.models) {
      expect(each.inputSize).toEqual([32, 32])
      expect(each.choices.map(({ block }) => block)).toEqual(['b0', 'b1', 'b2'])
      expect(Object.keys(each.predicted)).toEqual(['quality', 'qualityLow', 'latencyMs', 'memoryBytes'])
      expect(each).not.toHaveProperty('verified')
    }
    const sum = made.models.reduce((total, { predicted }) => total + predicted.memoryBytes, 0)
    expect(made.totals).toEqual({ memoryBytes: sum, cores: expect.any(Number) })
    expect(sum).toBeLessThanOrEqual(1.9e6)
    expect(made.totals!.cores).toBeGreaterThan(0)
    expect(made).not.toHaveProperty('infeasible')
  })

  test('the same figures for people', async () => {
    const { code, stdout } = await plan(CLASSIFIER, '--memory', '1MB')
    expect(code).toBe(0)
    expect(stdout).toMatch(new RegExp(`${CLASSIFIER} .*32×32 .*b0=\\w+ b1=\\w+ b2=\\w+`))
    expect(stdout).toContain('no better plan exists')
  })

  test('more memory is never worse, and a weight moves quality to the model that has it', async () => {
    const quality = async (...argv: string[]) => {
      const { json } = await plan(CLASSIFIER, DETECTOR, ...argv, '--json')
      return json<Plan>().models.map(({ predicted }) => predicted.quality)
    }
    const sum = (values: number[]) => values.reduce((a, b) => a + b, 0)
    const [little, much] = [await quality('--memory', '1.2MB'), await quality('--memory', '1.8MB')]
    expect(sum(much)).toBeGreaterThan(sum(little))
    const heavy = await quality('--memory', '1.7MB', '--weight', `${CLASSIFIER}=10`)
    const light = await quality('--memory', '1.7MB', '--weight', `${DETECTOR}=10`)
    expect(heavy[0]).toBeGreaterThan(light[0]!)
    expect(heavy[1]).toBeLessThan(light[1]!)
  })

  test('what does not fit says which limit and what it would take, with exit code 3', async () => {
    const { code, stderr, json } = await plan(CLASSIFIER, '--memory', '100kB', '--json')
    expect(code).toBe(3)
    expect(json<Plan>()).toMatchObject({
      status: 'infeasible',
      models: [],
      infeasible: { constraint: 'memory', has: 100_000 },
    })
    const { needs } = json<Plan>().infeasible!
    expect(JSON.parse(stderr)).toMatchObject({ error: { code: 'PLAN_INFEASIBLE' } })
    expect((await plan(CLASSIFIER, '--memory', `${needs}`)).code).toBe(0)
    const words = await plan(CLASSIFIER, '--latency', '1ms', '--latency', `${CLASSIFIER}=0.01ms`)
    expect([words.code, words.stdout]).toEqual([3, ''])
    expect(words.stderr).toMatch(/error: no plan fits: the latency of tiny-classifier has to be at least/)
  })

  test('a model that is not built is named, with those that are', async () => {
    const { code, stderr } = await plan(CLASSIFIER, 'nope')
    expect(code).toBe(1)
    expect(stderr).toMatch(/the model "nope" is not built[\s\S]*tiny-classifier/)
  })
})

describe('plan --problem', () => {
  const choice = (id: string, loss: number, memoryBytes: number) => ({ id, loss, latencyMs: 1, memoryBytes })
  const problem = {
    memoryBytes: 10,
    models: [
      {
        id: 'm',
        quality: 0.8,
        weight: 2,
        blocks: [
          { id: 'b0', choices: [choice('big', 0, 8), choice('small', 0.1, 3)] },
          { id: 'b1', choices: [choice('big', 0, 6), choice('small', 0.02, 2)] },
        ],
      },
    ],
  }

  test('solves it: the answer can be checked by hand', async () => {
    const { code, json } = await call('plan', '--problem', await written('problem.json', problem), '--json')
    expect(code).toBe(0)
    const made = json<Plan>()
    expect(made.models[0]!.choices.map(({ descendant }) => descendant)).toEqual(['big', 'small'])
    expect(made.objective).toBeCloseTo(2 * 0.02, 12)
    expect(made.totals!.memoryBytes).toBe(10)
    expect(made.binding).toEqual(['memory'])
  })

  test('infeasible ends with 3 and says by how much', async () => {
    const { code, json } = await call(
      'plan',
      '--problem',
      await written('tight.json', { ...problem, memoryBytes: 4 }),
      '--json',
    )
    expect(code).toBe(3)
    expect(json<Plan>().infeasible).toMatchObject({ constraint: 'memory', needs: 5, has: 4 })
  })

  test('--nearest gives the plan that breaks the limit by the least, and still says that none fits', async () => {
    const tight = await written('nearest.json', { ...problem, memoryBytes: 4 })
    const { code, json } = await call('plan', '--problem', tight, '--nearest', '--json')
    expect(code).toBe(3)
    const made = json<Plan>()
    expect(made.status).toBe('infeasible')
    expect(made.models.map(({ model }) => model)).toEqual(problem.models.map(({ id }) => id))
    expect(made.totals!.memoryBytes).toBe(made.infeasible!.needs)
  })

  test('a long answer reaches a reader that is slow', async () => {
    const blocks = Array.from({ length: 2000 }, (_, b) => ({ id: `b${b}`, choices: [choice('only', 0, 1)] }))
    const long = await written('long.json', { models: [{ id: 'm', quality: 0.8, blocks }] })
    const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
    const command = '"$0" --import tsx "$1" plan --problem "$2" --json | { sleep 5; cat; }'
    const { stdout } = await promisify(execFile)('sh', ['-c', command, process.execPath, main, long])
    const answer = JSON.parse(stdout) as Plan
    expect(answer.models[0]!.choices.length).toBe(blocks.length)
  })

  test.each([
    ['no JSON', '{"models": [', /is not JSON/],
    ['a list', [], /must be an object/],
    ['no models', { memoryBytes: 1 }, /models/],
    ['a negative memory', { ...problem, memoryBytes: -1 }, /memoryBytes: must be between/],
    ['a text for a number', { ...problem, memoryBytes: '64MB' }, /memoryBytes: must be a finite number/],
    [
      'a block without choices',
      { models: [{ id: 'm', quality: 1, blocks: [{ id: 'b', choices: [] }] }] },
      /choices: must not be empty/,
    ],
    ['an unknown objective', { ...problem, objective: 'speed' }, /objective/],
  ])('%s is refused with 2, naming the field', async (_, content, says) => {
    const { code, stdout, stderr } = await call('plan', '--problem', await written('bad.json', content))
    expect(stderr).toMatch(says)
    expect([code, stdout]).toEqual([2, ''])
  })

  test('a file that is not there ends with 1', async () => {
    expect((await call('plan', '--problem', join(folder, 'none.json'))).code).toBe(1)
  })
})

describe('a file given to --plan', () => {
  const entry = { model: CLASSIFIER, choices: ['b0', 'b1', 'b2'].map((block) => ({ block, descendant: 'slim' })) }
  const full = { status: 'optimal', models: [{ ...entry, model: DETECTOR }, entry] }
  const take = async (content: unknown) =>
    call(
      'export',
      CLASSIFIER,
      '--zoo',
      zoo,
      '--plan',
      await written('plan.json', content),
      '-o',
      join(folder, 'out.onnx'),
      '--json',
    )

  test('is what plan --json printed, and may be about other models as well', async () => {
    const { stdout } = await plan(CLASSIFIER, DETECTOR, '--memory', '1.7MB', '--json')
    const { code, json } = await take(stdout)
    expect(code).toBe(0)
    const chosen = (JSON.parse(stdout) as Plan).models.find(({ model }) => model === CLASSIFIER)!.choices
    const choices = Object.fromEntries(chosen.map(({ block, descendant }) => [block, descendant]))
    expect(json<{ choices: object }>().choices).toEqual(choices)
    expect((await take(full)).code).toBe(0)
  })

  test.each([
    ['no JSON', 'plan', /is not JSON/],
    ['another thing', { models: 3 }, /is no plan: status/],
    ['an infeasible plan', { status: 'infeasible', models: [] }, /nothing fitted the limits/],
    [
      'the plan nearest to limits that nothing fits',
      { status: 'infeasible', models: [{ model: 'm', choices: [] }] },
      /breaks the limits it was asked for/,
    ],
    [
      'other models only',
      { ...full, models: [full.models[0]] },
      /says nothing about tiny-classifier; it plans tiny-detector/,
    ],
    [
      'a missing block',
      { ...full, models: [{ ...entry, choices: entry.choices.slice(1) }] },
      /chooses nothing for the block b0/,
    ],
    [
      'an unknown block',
      { ...full, models: [{ ...entry, choices: [{ block: 'b9', descendant: 'slim' }] }] },
      /the block "b9"/,
    ],
    [
      'an unknown descendant',
      { ...full, models: [{ ...entry, choices: entry.choices.map(({ block }) => ({ block, descendant: 'tiny' })) }] },
      /block b0 has no descendant "tiny"; it has original, slim/,
    ],
    ['a block twice', { ...full, models: [{ ...entry, choices: [...entry.choices, entry.choices[0]] }] }, /twice/],
    [
      'another input size',
      { ...full, models: [{ ...entry, inputSize: [64, 64] }] },
      /input size 64×64; .* is built for 32×32/,
    ],
  ])('with %s is refused with 2', async (_, content, says) => {
    const { code, stdout, stderr } = await take(content)
    const { error } = JSON.parse(stderr) as { error: { code: string; message: string } }
    expect(error.message).toMatch(says)
    expect([code, stdout, error.code]).toEqual([2, '', 'PLAN_INVALID'])
  })
})

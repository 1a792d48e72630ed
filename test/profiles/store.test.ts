import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, readFile, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { text as textOf } from 'node:stream/consumers'
import { pathToFileURL } from 'node:url'
import Database from 'better-sqlite3'
import { describe, expect, it } from 'vitest'
import { blockId, descendantId, sha256 } from '../../src/base/index.ts'
import { connect } from '../../src/profiles/database.ts'
import { openProfiles } from '../../src/profiles/index.ts'
import { steps } from '../../src/profiles/schema.ts'
import { openZoo } from '../../src/zoo/index.ts'
import { buildSample, temporaryFolder } from '../zoo/sample.ts'
import { choicesOf, combination, device, loss, measurement, sample } from './sample.ts'

const folder = await temporaryFolder()
const zoo = openZoo(join(folder, 'zoo'))
const manifest = await buildSample(zoo)

function filled(name: string) {
  const store = openProfiles(join(folder, name))
  store.saveModel(manifest)
  store.saveDevice(device)
  return store
}
const failsWith = (code: string) => expect.objectContaining({ code })

describe('what was saved is read back', () => {
  const store = filled('rows.db')

  it('measurements, losses, combinations, devices', () => {
    const rows = [measurement(sample, 0, 'original', 2), measurement(sample, 1, 'prune50')]
    store.saveMeasurements(rows)
    store.saveMeasurements([measurement(sample, 0, 'original', 3)])
    expect(store.measurements({ model: sample, device: device.key })).toEqual([
      measurement(sample, 0, 'original', 3),
      rows[1],
    ])
    expect(store.measurements({ model: sample, device: device.key, size: [9, 9] })).toEqual([])
    store.saveLosses([loss(sample, 0, 'prune50')])
    expect(store.losses({ model: sample, size: [8, 8] })).toEqual([loss(sample, 0, 'prune50')])
    const first = combination(sample, choicesOf('original', 'prune50'))
    const second = combination(sample, choicesOf('prune50', 'prune50'), 0.6)
    store.saveCombinations([first, second])
    store.saveCombinations([{ ...first, measured: { quality: 0.71 } }])
    expect(store.combinations({ model: sample, device: device.key, split: 'report', size: [8, 8] })).toEqual([
      second,
      { ...first, measured: { quality: 0.71 } },
    ])
    expect(store.combinations({ model: sample, split: 'refit' })).toEqual([])
    expect(store.devices()).toEqual([device])
  })

  it('times of wholes that predictions are fitted on end with the next measurement of their parts; all else stays', () => {
    const store = filled('times.db')
    const fitted = { ...combination(sample, choicesOf('original', 'prune50')), split: 'refit' as const }
    const elsewhere = { ...fitted, device: 'x64-other' }
    const checked = combination(sample, choicesOf('prune50', 'prune50'))
    store.saveDevice({ ...device, key: elsewhere.device })
    store.saveCombinations([fitted, elsewhere, checked])
    store.saveMeasurements([measurement(sample, 0, 'original', 2)])
    const { latencyMs: _, ...kept } = fitted.measured
    expect(store.combinations({ model: sample })).toEqual([{ ...fitted, measured: kept }, elsewhere, checked])
    store.close()
  })

  it('plans, swaps and decisions, as a person reads them', () => {
    const choices = choicesOf('original', 'prune50')
    const models = [{ model: sample, size: [8, 8] as const, choices, predicted: { quality: 0.7, latencyMs: 2 } }]
    const first = store.savePlan({ at: 0, objective: 'quality', status: 'optimal', solveMs: 3, why: 'start', models })
    const second = store.savePlan({
      at: 1,
      objective: 'quality',
      status: 'optimal',
      solveMs: 3,
      why: 'less memory',
      models,
    })
    store.saveSwap({
      at: 2,
      model: sample,
      from: first,
      to: second,
      blocks: [{ block: blockId('b1'), from: descendantId('original'), to: descendantId('prune50') }],
      bytes: 200,
      ms: 1.5,
      why: 'less memory',
    })
    store.saveDecision({
      at: 3,
      action: 'swap',
      why: 'less memory',
      plan: second,
      readings: { memory_available_bytes: 5 },
    })
    expect(store.inspect('plans')).toHaveLength(2)
    expect(store.inspect('plans')[0]).toMatchObject({ model: 'sample', choices: 'b0:original b1:prune50' })
    expect(store.inspect('swaps')).toEqual([
      expect.objectContaining({ from_plan: first, to_plan: second, changes: 'b1:original>prune50', ms: 1.5 }),
    ])
    expect(store.inspect('decisions')[0]).toMatchObject({ readings: 'memory_available_bytes=5.0' })
    expect(store.inspect('descendants')[1]).toMatchObject({
      parameters: 'by=activation keep=0.5',
      weight_share: 0.5,
      divergence: 0.02,
    })
    for (const kind of ['models', 'blocks', 'measurements', 'combinations'] as const) {
      expect(store.inspect(kind).length).toBeGreaterThan(0)
    }
  })

  it('a statement that writes is refused, one that reads is answered', () => {
    expect(store.query('SELECT count(*) AS n FROM v_descendants')).toEqual([{ n: 4 }])
    const other = join(folder, 'other.db')
    for (const sql of [
      'DELETE FROM models',
      "UPDATE models SET task = 'x' RETURNING *",
      `ATTACH '${other}' AS o`,
      `VACUUM INTO '${other}'`,
      'PRAGMA user_version = 9',
      'PRAGMA journal_mode = DELETE',
      'BEGIN',
      'SELECT 1; DELETE FROM models',
      'no sql',
      '',
    ]) {
      let rows: unknown
      try {
        rows = store.query(sql)
      } catch (error) {
        expect(error, sql).toMatchObject({ code: expect.stringMatching(/USAGE|DATABASE_FAILED/) })
      }
      expect(rows === undefined || sql.startsWith('PRAGMA'), sql).toBe(true)
    }
    expect(store.inspect('models')).toHaveLength(1)
    expect(store.query('PRAGMA user_version')).toEqual([{ user_version: steps.length }])
  })
})

describe('a model that is built again', () => {
  it('keeps what was measured of unchanged files and forgets the rest', async () => {
    const store = filled('again.db')
    store.saveMeasurements([measurement(sample, 0, 'prune50'), measurement(sample, 1, 'prune50')])
    store.saveLosses([loss(sample, 0, 'prune50'), loss(sample, 1, 'prune50')])
    const kept = combination(sample, choicesOf('original', 'prune50'))
    store.saveCombinations([kept, combination(sample, choicesOf('prune50', 'prune50'))])
    store.saveModel(manifest)
    expect(store.combinations({ model: sample })).toHaveLength(2)
    const changed = structuredClone(manifest)
    Object.assign(changed.blocks[0]!.descendants[1]!.file, { sha256: sha256('anew') })
    store.saveModel(changed)
    expect(store.measurements({ model: sample, device: device.key }).map(({ block }) => block)).toEqual(['b1'])
    expect(store.losses({ model: sample }).map(({ block }) => block)).toEqual(['b1'])
    expect(store.combinations({ model: sample })).toEqual([kept])
    store.removeModel(sample)
    expect(store.combinations({ model: sample })).toEqual([])
    expect(store.inspect('measurements')).toEqual([])
  })

  it('nothing is kept of a descendant that does not exist', () => {
    const store = filled('absent.db')
    expect(() => store.saveMeasurements([measurement(sample, 7, 'prune50')])).toThrow(failsWith('DATABASE_FAILED'))
    const unknown = combination(sample, choicesOf('absent'))
    expect(() => store.saveCombinations([combination(sample, choicesOf('original')), unknown])).toThrow(
      failsWith('DATABASE_FAILED'),
    )
    expect(store.combinations({ model: sample })).toEqual([])
  })
})

describe('a file that grows', () => {
  it('keeps the newest rows, and the originals', () => {
    const store = filled('grows.db')
    const original = { ...combination(sample, choicesOf('original', 'original')), why: 'original' }
    store.saveCombinations([
      original,
      ...(['profile', 'refit', 'report'] as const).map((split) => ({
        ...combination(sample, choicesOf('prune50', 'prune50')),
        split,
      })),
    ])
    for (let i = 0; i < 20; i++) {
      const plan = store.savePlan({
        at: i,
        objective: 'quality',
        status: 'optimal',
        solveMs: 1,
        why: `${i}`,
        models: [],
      })
      store.saveSwap({ at: i, model: sample, from: plan, blocks: [], bytes: 0, ms: 1, why: `${i}` })
      store.saveDecision({ at: i, action: 'keep', why: `${i}`, readings: { load: i } })
    }
    store.retain({ plans: 3, swaps: 5, decisions: 4, combinations: 2 })
    expect(store.query('SELECT why FROM plans').map(({ why }) => why)).toEqual(['17', '18', '19'])
    expect(store.query('SELECT count(*) AS n, count(from_plan) AS linked FROM swaps')).toEqual([{ n: 5, linked: 3 }])
    expect(store.query('SELECT (SELECT count(*) FROM decisions) AS d, (SELECT count(*) FROM readings) AS r')).toEqual([
      { d: 4, r: 4 },
    ])
    expect(store.combinations({ model: sample }).map(({ why, split }) => `${why} ${split}`)).toEqual([
      'original report',
      'random refit',
      'random report',
    ])
  })
})

describe('versions', () => {
  it('a file of version 1 keeps its rows through later versions', () => {
    const path = join(folder, 'one.db')
    const old = connect(path, false, steps.slice(0, 1))
    old.exec(`INSERT INTO models VALUES ('m', 'generic', 'x', 1, 0, 'test', '2026-01-01')`)
    old.close()
    const later = [...steps, 'ALTER TABLE models ADD COLUMN note TEXT', `UPDATE models SET note = 'moved'`]
    const now = connect(path, false, later)
    expect(now.prepare('SELECT model, note FROM models').all()).toEqual([{ model: 'm', note: 'moved' }])
    expect(now.pragma('user_version', { simple: true })).toBe(later.length)
    now.close()
  })

  it('a step that fails leaves the version before', () => {
    const path = join(folder, 'half.db')
    connect(path, false).close()
    const broken = [...steps, 'CREATE TABLE extra (x); SELECT no_such_function()']
    expect(() => connect(path, false, broken)).toThrow(failsWith('DATABASE_FAILED'))
    const again = connect(path, false)
    expect(again.prepare("SELECT count(*) AS n FROM sqlite_schema WHERE name = 'extra'").get()).toEqual({ n: 0 })
    again.close()
  })

  it('a newer file is refused and left as it is', () => {
    const path = join(folder, 'newer.db')
    const newer = new Database(path)
    newer.pragma('user_version = 99')
    newer.close()
    for (const readOnly of [true, false]) {
      expect(() => openProfiles(path, { readOnly })).toThrow(failsWith('DATABASE_NEWER'))
    }
  })

  it('an older file can be read without being changed', () => {
    const path = join(folder, 'older.db')
    new Database(path).close()
    const empty = new Database(path)
    empty.pragma('journal_mode = WAL')
    empty.close()
    const store = openProfiles(path, { readOnly: true })
    expect(store.inspect('models')).toEqual([])
    store.close()
    const after = new Database(path)
    expect(after.pragma('user_version', { simple: true })).toBe(0)
    after.close()
  })

  it('what is no database, and what is not there, is said so', async () => {
    const path = join(folder, 'text.db')
    await writeFile(path, 'this is not a database, but long enough to be taken for one'.repeat(20))
    expect(() => openProfiles(path)).toThrow(failsWith('DATABASE_FAILED'))
    expect(() => openProfiles(join(folder, 'none/none.db'), { readOnly: true })).toThrow(failsWith('NOT_FOUND'))
  })
})

const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
const run = (code: string) =>
  spawn(process.execPath, ['--import', tsx, '--input-type=module', '-e', code], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
const door = JSON.stringify(new URL('../../src/profiles/index.ts', import.meta.url).href)

describe('several processes', () => {
  it('two that make the file and write at once lose no row', async () => {
    const path = join(folder, 'shared.db')
    const writers = ['a', 'b'].map((name) =>
      run(`
        import { openProfiles } from ${door}
        const store = openProfiles(${JSON.stringify(path)})
        for (let i = 0; i < 200; i++) {
          store.savePlan({ at: i, objective: 'quality', status: 'optimal', solveMs: 1, why: '${name}' + i, models: [] })
        }
        store.close()`),
    )
    expect(await Promise.all(writers.map(async (writer) => (await once(writer, 'exit'))[0]))).toEqual([0, 0])
    const store = openProfiles(path, { readOnly: true })
    expect(store.query('SELECT count(*) AS n, count(DISTINCT why) AS d FROM plans')).toEqual([{ n: 400, d: 400 }])
    store.close()
  })

  it('of two that make a file at the same moment neither is refused', async () => {
    const start = Date.now() + 3000
    const makers = [0, 1].map(() =>
      run(`
        import { openProfiles } from ${door}
        for (let i = 0; i < 40; i++) {
          while (Date.now() < ${start} + 20 * i) {}
          openProfiles(${JSON.stringify(join(folder, 'moment'))} + i + '.db').close()
        }`),
    )
    expect(await Promise.all(makers.map(async (maker) => (await once(maker, 'exit'))[0]))).toEqual([0, 0])
  })

  it('a folder that cannot be written can be read', async () => {
    const readOnly = join(folder, 'portable')
    const store = filled('portable/profiles.db')
    store.close()
    await chmod(readOnly, 0o555)
    const asNobody =
      process.getuid?.() === 0 ? 'process.setgroups([]); process.setgid(65534); process.setuid(65534)' : ''
    await chmod(folder, 0o755)
    const reader = run(`
      import { openProfiles } from ${door}
      ${asNobody}
      const store = openProfiles(${JSON.stringify(join(readOnly, 'profiles.db'))}, { readOnly: true })
      console.log(store.inspect('descendants').length, store.query('SELECT count(*) AS n FROM blocks')[0].n)`)
    const text = await textOf(reader.stdout)
    expect(text.trim()).toBe('4 2')
    await chmod(readOnly, 0o755)
    expect((await readFile(join(readOnly, 'profiles.db'))).length).toBeGreaterThan(0)
  })

  it('a writer that is killed leaves whole plans only', async () => {
    const path = join(folder, 'killed.db')
    const writer = run(`
      import { openProfiles } from ${door}
      const store = openProfiles(${JSON.stringify(path)})
      const choices = Object.fromEntries(Array.from({ length: 40 }, (_, i) => ['b' + i, 'd']))
      const models = [{ model: 'm', size: [1, 1], choices, predicted: {} }]
      for (let i = 0; ; i++) {
        store.savePlan({ at: i, objective: 'quality', status: 'optimal', solveMs: 1, why: '', models })
        if (i === 20) process.stdout.write('go')
      }`)
    await once(writer.stdout, 'data')
    writer.kill('SIGKILL')
    await once(writer, 'exit')
    const store = openProfiles(path)
    expect(store.query('SELECT DISTINCT count(*) AS n FROM plan_choices GROUP BY plan')).toEqual([{ n: 40 }])
    expect(store.query('PRAGMA integrity_check')).toEqual([{ integrity_check: 'ok' }])
    store.close()
  })
})

import { randomBytes } from 'node:crypto'
import { readdir, readFile, rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { BlockscaleError, type ModelId } from '../base/index.ts'
import { isAlive, type ProcessMark, thisProcess } from './processes.ts'
import { makeFolder, writeWhole } from './writing.ts'

export interface ZooLock {
  release(): Promise<void>
}

interface Claim extends ProcessMark {
  readonly model: string
  readonly since: string
}

const CLAIM = /^\.build\.[0-9a-f]{16}\.lock$/
/** A holder touches its claim this often, so that another host, which cannot see the process, sees that it lives. */
const HEARTBEAT_MS = 30_000
const SILENT_MS = 10 * HEARTBEAT_MS
const ATTEMPTS = 4

/**
 * Takes the build lock of a folder.
 *
 * Each builder first writes a claim of its own and then looks at the others: of two that come at once at least one sees
 * the other and steps back. So there is no moment in which a stale lock is taken over twice, as there is with one file
 * that is removed and made again.
 *
 * @throws BlockscaleError ZOO_LOCKED naming the process that holds it
 */
export async function takeLock(folder: string, model: ModelId): Promise<ZooLock> {
  await makeFolder(folder)
  for (let attempt = 1; ; attempt++) {
    const started = performance.now()
    const name = `.build.${randomBytes(8).toString('hex')}.lock`
    const path = join(folder, name)
    const claim: Claim = { ...thisProcess(), model, since: new Date().toISOString() }
    await writeWhole(path, `${JSON.stringify(claim)}\n`)
    const other = await otherClaim(folder, name).catch(async (error) => {
      await rm(path, { force: true })
      throw error
    })
    if (!other) return hold(path)
    await rm(path, { force: true })
    if (attempt === ATTEMPTS) {
      throw new BlockscaleError(
        'ZOO_LOCKED',
        `process ${other.pid} on ${other.host} has been building ${other.model} in ${folder} since ${other.since}`,
      )
    }
    // Those that stepped back for each other must not do so again, also where the disk is so slow that a claim is there for long; a
    // real holder is still there after these tries.
    await pause(10 + Math.random() * Math.max(60, 8 * (performance.now() - started)) * attempt)
  }
}

/** A living builder other than the one named; claims of dead ones are removed. */
async function otherClaim(folder: string, own: string): Promise<Claim | undefined> {
  for (const name of await readdir(folder)) {
    if (!CLAIM.test(name) || name === own) continue
    const path = join(folder, name)
    let claim: Claim
    let silentMs: number
    try {
      claim = JSON.parse(await readFile(path, 'utf8')) as Claim
      silentMs = Date.now() - (await stat(path)).mtimeMs
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue
      if (!(error instanceof SyntaxError)) throw error
      await rm(path, { force: true }) // claims are written whole: one that cannot be read is damaged
      continue
    }
    if (isAlive(claim) ?? silentMs < SILENT_MS) return claim
    await rm(path, { force: true })
  }
  return undefined
}

function hold(path: string): ZooLock {
  const heartbeat = setInterval(() => {
    const now = new Date()
    utimes(path, now, now).catch(() => {}) // a claim that cannot be touched is only a matter for other hosts
  }, HEARTBEAT_MS)
  heartbeat.unref()
  return {
    async release() {
      clearInterval(heartbeat)
      await rm(path, { force: true })
    },
  }
}

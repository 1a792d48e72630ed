import { access, constants, readFile, rm, statfs, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { availableParallelism, cpus, freemem, totalmem } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { formatBytes, packageVersion, seededRandom } from '../base/index.ts'
import { openSession } from '../engine/index.ts'
import { node, writeModel } from '../onnx/index.ts'
import { openProfiles, thisDevice } from '../profiles/index.ts'
import { decodePicture, encodePng, floats } from '../tensor/index.ts'
import { openZoo } from '../zoo/index.ts'

export interface Finding {
  readonly check: string
  readonly status: 'ok' | 'warn' | 'fail'
  readonly detail: string
  readonly hint: string | null
}

/** Looks at everything that blockscale needs of a machine. Changes nothing. */
export async function diagnose(zoo: string, port: number): Promise<Finding[]> {
  const checks = [
    nodeVersion,
    inference,
    processor,
    cores,
    memory,
    cgroup,
    pictures,
    () => writable(zoo),
    () => disk(zoo),
    () => profiles(zoo),
    () => portFree(port),
  ]
  const findings: Finding[] = [ok('blockscale', packageVersion)]
  for (const check of checks) findings.push(await check())
  return findings
}

const ok = (check: string, detail: string): Finding => ({ check, status: 'ok', detail, hint: null })
const warn = (check: string, detail: string, hint: string): Finding => ({ check, status: 'warn', detail, hint })
const fail = (check: string, detail: string, hint: string): Finding => ({ check, status: 'fail', detail, hint })

function nodeVersion(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  return major > 20 || (major === 20 && minor >= 12)
    ? ok('Node.js', process.version)
    : fail('Node.js', process.version, 'version 20.12 or newer is needed')
}

/** A network of one node, run and checked. */
async function inference(): Promise<Finding> {
  const { runtimeVersion } = thisDevice()
  const border = (name: string) => ({ name, fact: { type: 'float32' as const, dims: [1, 4] } })
  try {
    const session = await openSession(
      writeModel({
        graph: {
          name: 'probe',
          inputs: [border('x')],
          outputs: [border('y')],
          facts: new Map(),
          nodes: [node('Relu', ['x'], ['y'])],
          initializers: new Map(),
        },
        opsets: new Map([['', 13]]),
        irVersion: 8,
        producer: '',
        metadata: new Map<string, string>(),
        functions: [],
      }),
    )
    const { y } = await session.run({ x: floats([1, 4], [-1, 0, 1, 2]) })
    await session.release()
    const isRight = String(Array.from((y?.data ?? []) as Float32Array)) === '0,0,1,2'
    return isRight
      ? ok('ONNX Runtime', runtimeVersion)
      : fail('ONNX Runtime', `${runtimeVersion} gives wrong numbers`, 'reinstall onnxruntime-node')
  } catch (error) {
    return fail(
      'ONNX Runtime',
      (error as Error).message,
      'reinstall onnxruntime-node; musl (Alpine) is not supported by it',
    )
  }
}

function processor(): Finding {
  const { cpu, features } = thisDevice()
  const detail = `${cpu}${features ? ` (${features})` : ''}`
  const isX86 = process.arch === 'x64'
  if (isX86 && features !== '' && !features.split(' ').includes('avx2')) {
    return warn('CPU', detail, 'without AVX2 networks run several times slower')
  }
  if (isX86 && features !== '' && !/vnni/.test(features)) {
    return warn('CPU', detail, 'without VNNI int8 gains less speed; it still halves memory and more')
  }
  return ok('CPU', detail)
}

async function cores(): Promise<Finding> {
  const all = cpus().length
  const usable = availableParallelism()
  const quota = await cpuQuota()
  const detail = `${usable} of ${all}${quota === undefined ? '' : `, limited to ${quota.toFixed(2)} by the cgroup`}`
  if (quota !== undefined && quota < usable) {
    return warn('cores', detail, `serve with --workers ${Math.max(1, Math.floor(quota))}`)
  }
  return ok('cores', detail)
}

async function cpuQuota(): Promise<number | undefined> {
  const [quota, period] = (await firstLine('/sys/fs/cgroup/cpu.max')).split(' ').map(Number) // 'max 100000' without a limit
  return quota && period && Number.isFinite(quota) ? quota / period : undefined
}

const ROOM = 256e6

function memory(): Finding {
  const detail = `${formatBytes(freemem())} free of ${formatBytes(totalmem())}`
  return freemem() < ROOM
    ? warn('memory', detail, 'the program itself takes about 150 MB beside the models')
    : ok('memory', detail)
}

async function cgroup(): Promise<Finding> {
  const limit = Number(
    (await firstLine('/sys/fs/cgroup/memory.max')) || (await firstLine('/sys/fs/cgroup/memory/memory.limit_in_bytes')),
  )
  if (!Number.isFinite(limit) || limit <= 0 || limit > totalmem()) return ok('memory limit', 'none by a cgroup')
  const used = Number(
    (await firstLine('/sys/fs/cgroup/memory.current')) ||
      (await firstLine('/sys/fs/cgroup/memory/memory.usage_in_bytes')),
  )
  const detail = `${formatBytes(limit)} by the cgroup, ${formatBytes(used)} of it used`
  return limit - used < ROOM
    ? warn('memory limit', detail, 'models have to fit into what is left')
    : ok('memory limit', detail)
}

const firstLine = (path: string): Promise<string> =>
  readFile(path, 'utf8').then(
    (text) => text.split('\n')[0]!.trim(),
    () => '',
  )

/** The smallest picture of each format, of one pixel. */
const SAMPLES: Readonly<Record<string, string>> = {
  JPEG: '/9j/2wBDAP//////////////////////////////////////////////////////////////////////////////////////2wBDAf//////////////////////////////////////////////////////////////////////////////////////wAARCAABAAEDASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAAP/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/8QAFAEBAAAAAAAAAAAAAAAAAAAAAP/EABQRAQAAAAAAAAAAAAAAAAAAAAD/2gAMAwEAAhEDEQA/AKAA/9k=',
  WebP: 'UklGRh4AAABXRUJQVlA4TBEAAAAvAAAAAAfQ//73v/+BiOh/AAA=',
}

async function pictures(): Promise<Finding> {
  const broken: string[] = []
  const random = seededRandom(1)
  const data = Uint8Array.from({ length: 12 }, () => Math.floor(random() * 256))
  try {
    const again = await decodePicture(await encodePng({ width: 2, height: 2, data }))
    if (Buffer.compare(Buffer.from(again.data), Buffer.from(data)) !== 0) broken.push('PNG')
  } catch {
    broken.push('PNG')
  }
  for (const [format, base64] of Object.entries(SAMPLES)) {
    const { width, height } = await decodePicture(Buffer.from(base64, 'base64')).catch(() => ({ width: 0, height: 0 }))
    if (width !== 1 || height !== 1) broken.push(format)
  }
  return broken.length === 0
    ? ok('pictures', 'JPEG, PNG and WebP are read')
    : fail('pictures', `${broken.join(' and ')} cannot be read`, 'reinstall sharp')
}

/** The folder itself, or the first above it that exists, must take files. */
async function writable(zoo: string): Promise<Finding> {
  const folder = await existing(resolve(zoo))
  const probe = join(folder, `.doctor.${process.pid}.tmp`)
  try {
    await writeFile(probe, '')
    await rm(probe)
    return ok('zoo', `${resolve(zoo)} can be written${folder === resolve(zoo) ? '' : ' (it does not exist yet)'}`)
  } catch (error) {
    return fail('zoo', `${folder} cannot be written: ${(error as Error).message}`, 'name another folder with --zoo')
  }
}

async function existing(path: string): Promise<string> {
  const isThere = await access(path, constants.F_OK).then(
    () => true,
    () => false,
  )
  return isThere || path === dirname(path) ? path : existing(dirname(path))
}

async function disk(zoo: string): Promise<Finding> {
  const { bavail, bsize } = await statfs(await existing(resolve(zoo)))
  const free = bavail * bsize
  return free < 1e9
    ? warn('disk', `${formatBytes(free)} free`, 'a build writes several times the size of a model')
    : ok('disk', `${formatBytes(free)} free`)
}

async function profiles(zoo: string): Promise<Finding> {
  const opened = openZoo(zoo)
  const built = await opened.models()
  try {
    const store = openProfiles(opened.profilesPath, { readOnly: true })
    const here = store.devices().some(({ key }) => key === thisDevice().key)
    store.close()
    const detail = `${built.length} built: ${built.join(', ')}`
    return here || built.length === 0
      ? ok('models', detail)
      : warn('models', detail, 'nothing is measured on this device yet: `blockscale profile <model>`')
  } catch (error) {
    if ((error as { code?: string }).code === 'NOT_FOUND') return ok('models', 'none is built yet')
    return fail('models', (error as Error).message, (error as { hint?: string }).hint ?? '')
  }
}

function portFree(port: number): Promise<Finding> {
  return new Promise((done) => {
    const server = createServer()
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'EADDRINUSE' ? 'another program listens there' : error.message
      done(warn('port', `${port}: ${why}`, 'serve on another --port'))
    })
    server.listen(port, '127.0.0.1', () => server.close(() => done(ok('port', `${port} is free`))))
  })
}

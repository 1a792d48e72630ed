import { copyFile, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { BlockscaleError, type Progress, sha256OfFile, silentProgress } from '../base/index.ts'
import type { ModelCard } from '../tasks/index.ts'
import { listedModel, type ModelPlaces, pulledFolder } from './catalog.ts'
import { type FoundModel, findModel } from './find-model.ts'
import { makeFolder, writeWhole, writing } from './writing.ts'

export interface PullOptions extends ModelPlaces {
  /** take the file from this folder (or below), where it is known by its checksum, whatever its name */
  readonly from?: string | undefined
  readonly progress?: Progress | undefined
  readonly signal?: AbortSignal | undefined
}

type Source = NonNullable<ModelCard['source']>

/** No byte for so long means that the connection is dead. */
const SILENCE_MS = 30_000
const MAX_BYTES = 2 ** 31
/** folders below `from` that are searched */
const MAX_DEPTH = 4

/**
 * Installs a model of the catalogue into `<zoo>/models/<id>/`. A download that was interrupted is resumed.
 *
 * @throws BlockscaleError MODEL_UNKNOWN, DOWNLOAD_FAILED, CHECKSUM_MISMATCH (what was fetched is removed), NOT_FOUND when
 *   no file in `from` has the checksum
 */
export async function pull(id: string, options: PullOptions = {}): Promise<FoundModel> {
  const { card, folder: installed } = await listedModel(id, options)
  if (installed) {
    const found = await findModel(id, options).catch(() => undefined)
    if (found) return found
  }
  if (!card.source) {
    throw new BlockscaleError('MODEL_UNKNOWN', `model "${id}" has no source to fetch it from`)
  }
  const folder = join(pulledFolder(options), card.id)
  await makeFolder(folder)
  const part = join(folder, 'model.onnx.part')
  const progress = options.progress ?? silentProgress
  if (options.from) await copyFrom(options.from, card, card.source, part)
  else await download(card.source, part, progress, options.signal)
  await accept(card.source, part, join(folder, 'model.onnx'))
  // The card is written last: a folder without one is no installed model.
  await writeWhole(join(folder, 'model.json'), `${JSON.stringify({ ...card, file: 'model.onnx' }, null, 2)}\n`)
  return findModel(id, options)
}

async function accept(source: Source, part: string, to: string): Promise<void> {
  const found = await sha256OfFile(part)
  if (found !== source.sha256) {
    await rm(part, { force: true })
    throw new BlockscaleError(
      'CHECKSUM_MISMATCH',
      `the file fetched has the sha256 ${found}, the catalogue says ${source.sha256}`,
      'what was fetched has been removed; try again, or take the file from a folder with --from',
    )
  }
  await rename(part, to)
}

async function copyFrom(from: string, card: ModelCard, source: Source, part: string): Promise<void> {
  for await (const path of filesBelow(from, MAX_DEPTH)) {
    if (source.bytes !== undefined && (await stat(path)).size !== source.bytes) continue
    if (source.bytes === undefined && !path.toLowerCase().endsWith('.onnx')) continue
    if ((await sha256OfFile(path)) === source.sha256) {
      await writing(part, () => copyFile(path, part))
      return
    }
  }
  throw new BlockscaleError(
    'NOT_FOUND',
    `no file in ${from} has the checksum of ${card.id} (sha256 ${source.sha256})`,
    `the file is known by its checksum, not its name; ${source.url ? `it comes from ${source.url}` : 'get it from its project'}`,
  )
}

async function* filesBelow(folder: string, depth: number): AsyncGenerator<string> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((cause) => {
    throw new BlockscaleError('NOT_FOUND', `cannot read the folder ${folder}`, undefined, { cause })
  })
  for (const entry of entries) {
    const path = join(folder, entry.name)
    if (entry.isFile()) yield path
    else if (entry.isDirectory() && depth > 0) yield* filesBelow(path, depth - 1)
  }
}

async function download(
  source: Source,
  part: string,
  progress: Progress,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (!source.url) {
    throw new BlockscaleError(
      'DOWNLOAD_FAILED',
      'the catalogue names no address for this model',
      'get the file from its project and give its folder with --from',
    )
  }
  const have = await stat(part).then(
    (stats) => stats.size,
    () => 0,
  )
  if (have > 0 && have === source.bytes) return
  const silence = new AbortController()
  let timer = setTimeout(() => silence.abort(), SILENCE_MS)
  try {
    const response = await fetch(source.url, {
      signal: signal ? AbortSignal.any([signal, silence.signal]) : silence.signal,
      headers: have > 0 ? { range: `bytes=${have}-` } : {},
    })
    if (response.status === 416) {
      // The part is not a beginning of what is there now.
      await rm(part, { force: true })
      return await download(source, part, progress, signal)
    }
    if (!response.ok || !response.body) throw new Error(`the server answered ${response.status}`)
    const resumed = response.status === 206
    const rest = Number(response.headers.get('content-length')) || undefined
    const total = source.bytes ?? (rest && rest + (resumed ? have : 0))
    progress.step(`fetch ${new URL(source.url).pathname.split('/').at(-1)}`, total)
    if (resumed) progress.advance(have)
    const file = await writing(part, () => open(part, resumed ? 'a' : 'w'))
    try {
      let bytes = resumed ? have : 0
      for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
        clearTimeout(timer)
        timer = setTimeout(() => silence.abort(), SILENCE_MS)
        bytes += chunk.length
        if (bytes > (source.bytes ?? MAX_BYTES)) throw new Error(`it is larger than ${source.bytes ?? MAX_BYTES} bytes`)
        await writing(part, () => file.writeFile(chunk))
        progress.advance(chunk.length)
      }
    } finally {
      await file.close()
    }
  } catch (cause) {
    if (cause instanceof BlockscaleError) throw cause
    const reason = silence.signal.aborted ? `no byte for ${SILENCE_MS / 1000} s` : reasonOf(cause)
    throw new BlockscaleError(
      'DOWNLOAD_FAILED',
      `cannot fetch ${source.url}: ${reason}`,
      'what came so far is kept and the next pull goes on from there; or give a folder that holds the file with --from',
      { cause },
    )
  } finally {
    clearTimeout(timer)
  }
}

function reasonOf(cause: unknown): string {
  const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause
  return inner instanceof Error ? inner.message : String(inner)
}

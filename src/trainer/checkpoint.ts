import { readFile } from 'node:fs/promises'
import { writeFileAtomic } from '../base/index.ts'

/** Everything that a training run needs to go on as if it had not been interrupted. */
export interface Checkpoint {
  /** names the network, data and options; a file of another run is not taken up */
  readonly key: string
  readonly numbers: Readonly<Record<string, number>>
  readonly vectors: Readonly<Record<string, Float32Array>>
}

const MAGIC = 'blockscale-training-1'

/** One line of JSON, padded to whole floats, then the vectors. The old file stays until the new one is whole. */
export async function writeCheckpoint(path: string, checkpoint: Checkpoint): Promise<void> {
  const vectors = Object.entries(checkpoint.vectors)
  const numbers = Object.fromEntries(Object.entries(checkpoint.numbers).map(([name, value]) => [name, String(value)]))
  const head = JSON.stringify({
    magic: MAGIC,
    key: checkpoint.key,
    numbers,
    vectors: vectors.map(([name, { length }]) => [name, length]),
  })
  const line = `${head}${' '.repeat(3 - (Buffer.byteLength(head) % 4))}\n`
  const parts = vectors.map(([, { buffer, byteOffset, byteLength }]) => Buffer.from(buffer, byteOffset, byteLength))
  await writeFileAtomic(path, Buffer.concat([Buffer.from(line), ...parts]))
}

/** The checkpoint of exactly this run, or `undefined` where there is none that can be taken up. */
export async function readCheckpoint(path: string, key: string): Promise<Checkpoint | undefined> {
  const bytes = await readFile(path).catch(() => undefined)
  const end = bytes?.indexOf('\n') ?? -1
  if (!bytes || end < 0) return undefined
  const head = parseHead(bytes.subarray(0, end).toString('utf8'))
  if (head?.magic !== MAGIC || head.key !== key) return undefined
  const vectors: Record<string, Float32Array> = {}
  let offset = end + 1
  for (const [name, length] of head.vectors) {
    if (offset + 4 * length > bytes.length) return undefined
    vectors[name] = new Float32Array(new Uint8Array(bytes.subarray(offset, offset + 4 * length)).buffer)
    offset += 4 * length
  }
  // as text, because JSON has no infinity
  const numbers = Object.fromEntries(Object.entries(head.numbers).map(([name, value]) => [name, Number(value)]))
  return { key, numbers, vectors }
}

interface Head {
  readonly magic: string
  readonly key: string
  readonly numbers: Readonly<Record<string, string>>
  readonly vectors: readonly (readonly [string, number])[]
}

function parseHead(line: string): Head | undefined {
  try {
    return JSON.parse(line) as Head
  } catch {
    return undefined
  }
}

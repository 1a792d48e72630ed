import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import { blockId, descendantId, modelId, ORIGINAL, sha256 } from '../../src/base/index.ts'
import { readCard } from '../../src/tasks/index.ts'
import type { Manifest, ManifestBlock, Zoo, ZooFile } from '../../src/zoo/index.ts'

/** A folder that is removed when the tests of the file are done. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'blockscale-'))
  afterAll(() => rm(folder, { recursive: true, force: true }))
  return folder
}

export const card = readCard({
  id: 'sample',
  task: 'generic',
  file: 'model.onnx',
  input: { name: 'x', size: [8, 8] },
  output: { decoder: 'none' },
})

const border = (name: string) => [{ name, fact: { type: 'float32' as const, dims: [1, 4] } }]

/** A model of `blocks` blocks with two descendants each; the files hold what `content` gives. */
export async function buildSample(
  zoo: Zoo,
  name = 'sample',
  blocks = 2,
  content: (block: number, descendant: string) => Uint8Array = (block, descendant) =>
    Buffer.from(`block ${block} as ${descendant}`),
): Promise<Manifest> {
  const model = modelId(name)
  const written: ManifestBlock[] = []
  for (let i = 0; i < blocks; i++) {
    const id = blockId(`b${i}`)
    const write = (descendant: string): Promise<ZooFile> =>
      zoo.writeBlock(model, id, descendantId(descendant), content(i, descendant))
    written.push({
      id,
      inputs: border(`v${i}`),
      outputs: border(`v${i + 1}`),
      descendants: [
        { id: ORIGINAL, kind: 'original', parameters: {}, file: await write('original'), weightBytes: 400, macs: 100 },
        {
          id: descendantId('prune50'),
          kind: 'prune',
          parameters: { keep: 0.5, by: 'activation' },
          file: await write('prune50'),
          weightBytes: 200,
          macs: 50,
        },
      ],
    })
  }
  const manifest: Manifest = {
    format: 1,
    model,
    card: { ...card, id: name },
    source: sha256('source'),
    original: await zoo.writeFile(model, 'original.onnx', Buffer.from('the whole model')),
    inputs: border('v0'),
    outputs: border(`v${blocks}`),
    blocks: written,
    sizes: [[8, 8]],
    dropped: [{ block: blockId('b0'), descendant: descendantId('prune25'), why: 'slower and worse than prune50' }],
    stitchedError: 0,
    builtWith: 'test',
  }
  await zoo.writeManifest(manifest)
  return manifest
}

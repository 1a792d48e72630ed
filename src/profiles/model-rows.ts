import type { ModelId } from '../base/index.ts'
import type { Manifest, ManifestBlock } from '../zoo/index.ts'
import { iso } from './columns.ts'
import type { Rows } from './table-rows.ts'

/** Takes over blocks and descendants; what was measured of files that changed is forgotten, the rest is kept. */
export function saveModel(rows: Rows, manifest: Manifest): void {
  rows.atomically(() => {
    const { model } = manifest
    rows.put('models', ['model'], {
      model,
      task: manifest.card.task,
      source_sha256: manifest.source,
      original_bytes: manifest.original.bytes,
      stitched_error: manifest.stitchedError,
      built_with: manifest.builtWith,
      saved_at: iso(Date.now()),
    })
    const known = rows.all('SELECT block, descendant, sha256 FROM descendants WHERE model = ?', model)
    const current = new Map(
      manifest.blocks.flatMap((block) => block.descendants.map((d) => [`${block.id}/${d.id}`, d.file.sha256])),
    )
    for (const { block, descendant, sha256 } of known) {
      if (current.get(`${block}/${descendant}`) === sha256) continue
      rows.run(
        `DELETE FROM combinations WHERE combination IN
          (SELECT combination FROM combination_choices WHERE model = ? AND block = ? AND descendant = ?)`,
        model,
        block,
        descendant,
      )
      rows.run('DELETE FROM descendants WHERE model = ? AND block = ? AND descendant = ?', model, block, descendant)
    }
    const kept = new Set<string>(manifest.blocks.map(({ id }) => id))
    for (const { block } of rows.all('SELECT block FROM blocks WHERE model = ?', model)) {
      if (!kept.has(block as string)) rows.run('DELETE FROM blocks WHERE model = ? AND block = ?', model, block)
    }
    for (const [position, block] of manifest.blocks.entries()) saveBlock(rows, model, position, block)
  })
}

function saveBlock(rows: Rows, model: ModelId, position: number, block: ManifestBlock): void {
  rows.put('blocks', ['model', 'block'], {
    model,
    block: block.id,
    position,
    inputs: block.inputs.map(({ name }) => name).join(' '),
    outputs: block.outputs.map(({ name }) => name).join(' '),
  })
  for (const descendant of block.descendants) {
    const key = { model, block: block.id, descendant: descendant.id }
    rows.put('descendants', ['model', 'block', 'descendant'], {
      ...key,
      kind: descendant.kind,
      file: descendant.file.path,
      file_bytes: descendant.file.bytes,
      weight_bytes: descendant.weightBytes,
      macs: descendant.macs,
      sha256: descendant.file.sha256,
    })
    rows.run('DELETE FROM parameters WHERE model = ? AND block = ? AND descendant = ?', ...Object.values(key))
    for (const [name, value] of Object.entries(descendant.parameters)) {
      rows.put('parameters', [], { ...key, name, value })
    }
  }
}

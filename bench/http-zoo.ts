import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { blockId, modelId, ORIGINAL, sha256 } from '../src/base/index.ts'
import { openSession } from '../src/engine/index.ts'
import {
  cut,
  normalise,
  proposeCuts,
  type Runner,
  readModel,
  type ValueInfo,
  weightBytes,
  writeModel,
} from '../src/onnx/index.ts'
import { openProfiles, thisDevice } from '../src/profiles/index.ts'
import { loadCard } from '../src/tasks/index.ts'
import { type Manifest, type ManifestBlock, openZoo } from '../src/zoo/index.ts'

const run: Runner = async (model, feeds, outputs) => {
  const known = new Map(model.graph.outputs.map((output) => [output.name, output]))
  const wanted = outputs.map((name) => known.get(name) ?? { name })
  const recording = { ...model, graph: { ...model.graph, outputs: wanted } }
  const session = await openSession(writeModel(recording), { optimization: 'disabled' })
  try {
    return await session.run(feeds, outputs)
  } finally {
    await session.release()
  }
}

/**
 * A zoo that holds a model of the assets folder, cut at its default places, with no descendants but the originals: the HTTP
 * benchmark measures what is around the network, and needs no build for that.
 *
 * @param id under which it is in the zoo; its name unless given
 */
export async function originalsOnly(dir: string, assets: string, name: string, id = name): Promise<void> {
  const zoo = openZoo(dir)
  const model = modelId(id)
  const card = await loadCard(fileURLToPath(new URL(`../model-zoo/catalog/${name}.json`, import.meta.url)))
  const bytes = readFileSync(join(assets, 'models', `${name}.onnx`))
  const normalised = await normalise(readModel(bytes), run)
  const { graph } = normalised.model
  const ends = (values: readonly ValueInfo[]) =>
    values.map(({ name: value, fact }) => {
      // what files say of their outputs is not always true; what was recorded is
      const dims = [...(normalised.nominal.get(value) ?? [])]
      return { name: value, fact: { type: fact?.type ?? ('float32' as const), dims } }
    })
  const blocks: ManifestBlock[] = []
  for (const block of cut(normalised, proposeCuts(normalised))) {
    const id = blockId(`b${blocks.length}`)
    const file = await zoo.writeBlock(model, id, ORIGINAL, writeModel(block.model))
    const facts = { parameters: {}, file, weightBytes: weightBytes(block.model), macs: 0 }
    const [inputs, outputs] = [ends(block.inputs), ends(block.outputs)]
    blocks.push({ id, inputs, outputs, descendants: [{ id: ORIGINAL, kind: 'original', ...facts }] })
  }
  const { size } = Array.isArray(card.input) ? card.input[0]! : card.input
  const manifest: Manifest = {
    format: 1,
    model,
    card: { ...card, id },
    source: sha256(bytes),
    original: await zoo.writeFile(model, 'original.onnx', writeModel(normalised.model)),
    inputs: ends(graph.inputs),
    outputs: ends(graph.outputs),
    blocks,
    sizes: [size],
    dropped: [],
    stitchedError: 0,
    builtWith: 'bench',
  }
  await zoo.writeManifest(manifest)
  const store = openProfiles(zoo.profilesPath)
  const device = thisDevice()
  store.saveDevice(device)
  store.saveModel(manifest)
  const at = { model, device: device.key, size, measuredAt: Date.now() }
  const costs = { latencyP50Ms: 1, latencyP95Ms: 1, loadMs: 1, anonymousBytes: 1e6, mappedBytes: 0, samples: 1 }
  store.saveMeasurements(
    blocks.map(({ id }) => ({ ...at, ...costs, block: id, descendant: ORIGINAL, memoryMethod: 'smaps' as const })),
  )
  store.close()
}

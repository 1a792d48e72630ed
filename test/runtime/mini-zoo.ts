import { blockId, descendantId, modelId, ORIGINAL, sha256 } from '../../src/base/index.ts'
import type { Model } from '../../src/onnx/index.ts'
import { type Measurement, openProfiles, thisDevice } from '../../src/profiles/index.ts'
import { readCard } from '../../src/tasks/index.ts'
import type { Picture } from '../../src/tensor/index.ts'
import { type BorderValue, type Choices, type Manifest, openZoo, type ZooFile } from '../../src/zoo/index.ts'
import { adder, bytesOf } from '../engine/tiny.ts'

export const DIMS = [1, 3, 8, 8]
const border = (name: string): BorderValue => ({ name, fact: { type: 'float32', dims: DIMS } })

/** A black picture: every value that the network gets is 0. */
export const black: Picture = { width: 8, height: 8, data: new Uint8Array(3 * 64) }

/**
 * Builds a small model of three blocks in a zoo, with its profiles.
 *
 * Block i with its descendant number k (the original is number 1) adds k·10^i, takes (variants − k + 1)·1 MB and as many milliseconds,
 * and loses (k − 1)·0.01 of quality: the original is best and dearest. With `largeOriginals` it has by far the largest file as well.
 */
export async function buildMini(
  dir: string,
  name: string,
  variants = 4,
  { largeOriginals = false } = {},
): Promise<Manifest> {
  const zoo = openZoo(dir)
  const model = modelId(name)
  const write = async (block: number, k: number): Promise<ZooFile> => {
    const [input, output] = [block === 0 ? 'x' : `v${block}`, block === 2 ? 'y' : `v${block + 1}`]
    // The name goes into the file, so that models share no blocks unless they are the same.
    const own = k === 1 && largeOriginals ? DIMS : [1]
    const graph: Model = adder(input, output, k * 10 ** block, DIMS, own)
    const bytes = bytesOf({ ...graph, metadata: new Map([['of', name]]) })
    return zoo.writeBlock(model, blockId(`b${block}`), k === 1 ? ORIGINAL : descendantId(`d${k}`), bytes)
  }
  const blocks = []
  for (let block = 0; block < 3; block++) {
    const descendants = []
    for (let k = 1; k <= variants; k++) {
      const id = k === 1 ? ORIGINAL : descendantId(`d${k}`)
      const kind = k === 1 ? ('original' as const) : ('prune' as const)
      descendants.push({ id, kind, parameters: {}, file: await write(block, k), weightBytes: 4, macs: 192 })
    }
    blocks.push({
      id: blockId(`b${block}`),
      inputs: [border(block === 0 ? 'x' : `v${block}`)],
      outputs: [border(block === 2 ? 'y' : `v${block + 1}`)],
      descendants,
    })
  }
  const card = readCard({
    id: name,
    task: 'generic',
    file: 'model.onnx',
    input: { name: 'x', size: [8, 8], resize: 'stretch' },
    output: { decoder: 'none' },
  })
  const manifest: Manifest = {
    format: 1,
    model,
    card,
    source: sha256(name),
    original: await zoo.writeFile(model, 'original.onnx', bytesOf(adder('x', 'y', 111, DIMS))),
    inputs: [border('x')],
    outputs: [border('y')],
    blocks,
    sizes: [[8, 8]],
    dropped: [],
    stitchedError: 0,
    builtWith: 'test',
  }
  await zoo.writeManifest(manifest)
  profile(zoo.profilesPath, manifest)
  return manifest
}

function profile(path: string, manifest: Manifest): void {
  const { model, blocks } = manifest
  const size = [8, 8] as const
  const device = thisDevice()
  const store = openProfiles(path)
  store.saveDevice(device)
  store.saveModel(manifest)
  const common = { model, size, device: device.key, measuredAt: Date.now() }
  for (const { id, descendants } of blocks) {
    const cost = (k: number) => descendants.length - k
    store.saveMeasurements(
      descendants.map(
        (descendant, k): Measurement => ({
          ...common,
          block: id,
          descendant: descendant.id,
          latencyP50Ms: cost(k),
          latencyP95Ms: cost(k),
          anonymousBytes: 0,
          mappedBytes: cost(k) * 1e6,
          loadMs: 0.1,
          samples: 10,
          memoryMethod: 'smaps',
        }),
      ),
    )
    const losses = { model, block: id, size, outputError: 0, pictures: 10 }
    store.saveLosses(
      descendants.map(({ id: descendant }, k) => ({
        ...losses,
        descendant,
        qualityLoss: k * 0.01,
        divergence: k * 0.01,
      })),
    )
  }
  const choices = Object.fromEntries(blocks.map(({ id }) => [id, ORIGINAL])) as Choices
  const measured = { quality: 0.9, divergence: 0, latencyMs: 3 * 4, memoryBytes: 3 * 4e6 }
  store.saveCombinations([
    { ...common, split: 'refit', metric: 'snr', choices, predicted: {}, measured, pictures: 10, why: 'original' },
  ])
  store.close()
}

/** What a choice of descendants has to answer to a black picture. */
export const sumOf = (choices: Readonly<Record<string, string>>): number =>
  Object.entries(choices).reduce((sum, [block, descendant]) => {
    const k = descendant === ORIGINAL ? 1 : Number(descendant.slice(1))
    return sum + k * 10 ** Number(block.slice(1))
  }, 0)

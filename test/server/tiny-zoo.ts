import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { blockId, descendantId, modelId, ORIGINAL, seededRandom, sha256 } from '../../src/base/index.ts'
import { int, ints, type Model, type Node, node, weightBytes, writeModel } from '../../src/onnx/index.ts'
import { openProfiles, thisDevice } from '../../src/profiles/index.ts'
import { readCard } from '../../src/tasks/index.ts'
import { floats, longs, type Tensor } from '../../src/tensor/index.ts'
import { type BorderValue, type ManifestBlock, openZoo, type Zoo } from '../../src/zoo/index.ts'

export const CLASSIFIER = 'tiny-classifier'
export const DETECTOR = 'tiny-detector'
export const FACES = 'tiny-faces'

/** What the detector finds in every picture: a grid of 25 boxes, each less certain than the one before. */
export const GRID = Array.from({ length: 25 }, (_, i) => ({
  label: i % 3,
  score: 0.95 - 0.03 * i,
  box: [(i % 5) / 5, Math.floor(i / 5) / 5, (i % 5) / 5 + 0.1, Math.floor(i / 5) / 5 + 0.1] as const,
}))
export const LABELS = ['Person', 'dog', 'Traffic Light']

/** What costs are written down for each descendant, so that plans are the same on every machine. */
const costs = { original: { bytes: 400_000, ms: 0.4, loss: 0 }, slim: { bytes: 150_000, ms: 0.2, loss: 0.02 } }
type Kind = keyof typeof costs

const SIZE = 32
const CHANNELS = 8

interface Piece {
  readonly nodes: readonly Node[]
  readonly initializers: ReadonlyMap<string, Tensor>
}

const random = seededRandom(7)
const weights = (...dims: number[]): Tensor =>
  floats(
    dims,
    Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => (random() - 0.5) / 4),
  )

/**
 * A zoo of three real, tiny networks, each in three blocks with two descendants: built in code, in well under a second,
 * so that every test of the service runs on the real runtime. The detectors' heads ignore the picture: their answers are
 * known to the pixel.
 */
export async function buildTinyZoo(): Promise<{ dir: string; remove(): Promise<void> }> {
  const dir = await mkdtemp(join(tmpdir(), 'blockscale-server-'))
  const zoo = openZoo(dir)
  const grid = flat(GRID.map(({ box }) => box))
  const scores = flat(GRID.map(({ label, score }) => LABELS.map((_, index) => (index === label ? score : 0))))
  await writeTiny(zoo, CLASSIFIER, 'classification', { decoder: 'softmax', labels: ['Red', 'green', 'blue', 'grey'] }, [
    head('logits', [1, 4], weights(CHANNELS, 4), [2, 1, 0, -1]),
  ])
  await writeTiny(
    zoo,
    DETECTOR,
    'detection',
    { decoder: 'boxes', boxes: 'boxes', scores: 'scores', labels: LABELS, threshold: 0.1 },
    [
      head('boxes', [1, 25, 4], floats([CHANNELS, 100], new Float32Array(CHANNELS * 100)), grid),
      head('scores', [1, 25, 3], floats([CHANNELS, 75], new Float32Array(CHANNELS * 75)), scores),
    ],
  )
  await writeTiny(zoo, FACES, 'face-detection', { decoder: 'ultraface' }, [
    head('boxes', [1, 1, 4], floats([CHANNELS, 4], new Float32Array(CHANNELS * 4)), [0.25, 0.25, 0.75, 1.25]),
    head('scores', [1, 1, 2], floats([CHANNELS, 2], new Float32Array(CHANNELS * 2)), [0.1, 0.9]),
  ])
  return { dir, remove: () => rm(dir, { recursive: true, force: true }) }
}

const flat = (rows: readonly (readonly number[])[]): number[] => rows.flatMap((row) => [...row])

interface Head extends Piece {
  readonly output: BorderValue
}

/** Pooled features times weights plus a bias, in the shape of an output. */
function head(name: string, dims: readonly number[], w: Tensor, bias: readonly number[]): Head {
  return {
    output: { name, fact: { type: 'float32', dims } },
    nodes: [
      node('Gemm', ['pooled', `${name}.w`, `${name}.b`], [`${name}.flat`]),
      node('Reshape', [`${name}.flat`, `${name}.shape`], [name]),
    ],
    initializers: new Map<string, Tensor>([
      [`${name}.w`, w],
      [`${name}.b`, floats([bias.length], bias)],
      [`${name}.shape`, longs(dims)],
    ]),
  }
}

const stem: Piece = {
  nodes: [
    node('Conv', ['x', 'stem.w'], ['stem'], { pads: ints([1, 1, 1, 1]), strides: ints([2, 2]) }),
    node('Relu', ['stem'], ['v0']),
  ],
  initializers: new Map([['stem.w', weights(CHANNELS, 3, 3, 3)]]),
}

const middle = (inner: number): Piece => ({
  nodes: [
    node('Conv', ['v0', 'up.w'], ['up'], { pads: ints([1, 1, 1, 1]) }),
    node('Relu', ['up'], ['up.relu']),
    node('Conv', ['up.relu', 'down.w'], ['v1'], { pads: ints([1, 1, 1, 1]) }),
  ],
  initializers: new Map([
    ['up.w', weights(inner, CHANNELS, 3, 3)],
    ['down.w', weights(CHANNELS, inner, 3, 3)],
  ]),
})

const tail = (heads: readonly Head[]): Piece => ({
  nodes: [
    node('GlobalAveragePool', ['v1'], ['average']),
    node('Flatten', ['average'], ['pooled'], { axis: int(1) }),
    ...heads.flatMap((each) => each.nodes),
  ],
  initializers: new Map(heads.flatMap((each) => [...each.initializers])),
})

const border = (name: string, dims: readonly number[]): BorderValue => ({ name, fact: { type: 'float32', dims } })

async function writeTiny(zoo: Zoo, name: string, task: string, output: object, heads: readonly Head[]): Promise<void> {
  const model = modelId(name)
  const card = readCard({
    id: name,
    task,
    file: 'model.onnx',
    input: { name: 'x', size: [SIZE, SIZE], scale: 1 / 255 },
    output,
  })
  const side = SIZE / 2
  const x = border('x', [1, 3, SIZE, SIZE])
  const inside = ['v0', 'v1'].map((each) => border(each, [1, CHANNELS, side, side]))
  const outputs = heads.map((each) => each.output)
  const plan: { id: string; inputs: BorderValue[]; outputs: BorderValue[]; pieces: Record<Kind, Piece> }[] = [
    { id: 'b0', inputs: [x], outputs: [inside[0]!], pieces: { original: stem, slim: stem } },
    { id: 'b1', inputs: [inside[0]!], outputs: [inside[1]!], pieces: { original: middle(32), slim: middle(8) } },
    { id: 'b2', inputs: [inside[1]!], outputs, pieces: { original: tail(heads), slim: tail(heads) } },
  ]
  const blocks: ManifestBlock[] = []
  for (const { id, inputs, outputs: ends, pieces } of plan) {
    const made = (['original', 'slim'] as const).map(async (kind) => {
      const onnx = modelOf(inputs, ends, pieces[kind])
      const file = await zoo.writeBlock(model, blockId(id), descendantId(kind), writeModel(onnx))
      const facts = { parameters: {}, file, weightBytes: weightBytes(onnx), macs: 1000 }
      return {
        id: descendantId(kind),
        kind: kind === 'original' ? ('original' as const) : ('prune' as const),
        ...facts,
      }
    })
    blocks.push({ id: blockId(id), inputs, outputs: ends, descendants: await Promise.all(made) })
  }
  const whole = [stem, plan[1]!.pieces.original, tail(heads)]
  const joined: Piece = {
    nodes: whole.flatMap((each) => each.nodes),
    initializers: new Map(whole.flatMap((each) => [...each.initializers])),
  }
  const bytes = writeModel(modelOf([x], outputs, joined))
  const original = await zoo.writeFile(model, 'original.onnx', bytes)
  const manifest = {
    format: 1 as const,
    model,
    card,
    source: sha256(bytes),
    original,
    inputs: [x],
    outputs,
    blocks,
    sizes: [[SIZE, SIZE] as const],
    dropped: [],
    stitchedError: 0,
    builtWith: 'test',
  }
  await zoo.writeManifest(manifest)
  writeProfile(zoo, manifest)
}

export const modelOf = (inputs: readonly BorderValue[], outputs: readonly BorderValue[], piece: Piece): Model => ({
  graph: { name: 'tiny', inputs, outputs, facts: new Map(), nodes: [...piece.nodes], initializers: piece.initializers },
  opsets: new Map([['', 13]]),
  irVersion: 8,
  producer: '',
  metadata: new Map<string, string>(),
  functions: [],
})

export function writeProfile(zoo: Zoo, manifest: Parameters<Zoo['writeManifest']>[0]): void {
  const store = openProfiles(zoo.profilesPath)
  const device = thisDevice()
  const { model, blocks } = manifest
  const at = { model, device: device.key, size: manifest.sizes[0]!, measuredAt: Date.now() }
  store.saveDevice(device)
  store.saveModel(manifest)
  for (const { id: block, descendants } of blocks) {
    for (const { id: descendant } of descendants) {
      const { bytes, ms, loss } = costs[descendant as Kind]
      const memory = { anonymousBytes: bytes, mappedBytes: 0, loadMs: 0.3, memoryMethod: 'smaps' as const }
      store.saveMeasurements([{ ...at, block, descendant, latencyP50Ms: ms, latencyP95Ms: ms, samples: 10, ...memory }])
      store.saveLosses([
        { ...at, block, descendant, qualityLoss: loss, divergence: loss, outputError: loss, pictures: 10 },
      ])
    }
  }
  store.saveCombinations([
    {
      ...at,
      split: 'report',
      metric: 'top1',
      choices: Object.fromEntries(blocks.map(({ id }) => [id, ORIGINAL])),
      predicted: { quality: 0.9 },
      measured: { quality: 0.9, divergence: 0, latencyMs: 1.2, memoryBytes: 1_200_000 },
      pictures: 10,
      why: 'original',
    },
  ])
  store.close()
}

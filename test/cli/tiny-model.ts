import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import { seededRandom } from '../../src/base/index.ts'
import { int, ints, type Model, node, writeModel } from '../../src/onnx/index.ts'
import { elementCount, encodePng, floats, type Tensor } from '../../src/tensor/index.ts'

/** A folder that is removed when the tests of the file are done. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'blockscale-cli-'))
  afterAll(() => rm(folder, { recursive: true, force: true }))
  return folder
}

const WIDTH = 32
const SIDE = 32

/** A network of a few convolutions that tells four classes apart, badly: built in code, real all the same. */
export function tinyModel(): Uint8Array {
  const random = seededRandom(5)
  const weights = (...dims: number[]): Tensor =>
    floats(
      dims,
      Float32Array.from({ length: elementCount(dims) }, () => (random() - 0.5) * 0.5),
    )
  const inputs = ['x', 'r0', 'r1', 'r2']
  const convolutions = inputs.flatMap((from, i) => [
    node('Conv', [from, `w${i}`], [`c${i}`], { pads: ints([1, 1, 1, 1]), strides: ints(i === 0 ? [2, 2] : [1, 1]) }),
    node('Relu', [`c${i}`], [`r${i}`]),
  ])
  const model: Model = {
    graph: {
      name: 'tiny',
      inputs: [{ name: 'x', fact: { type: 'float32', dims: [1, 3, SIDE, SIDE] } }],
      outputs: [{ name: 'y', fact: { type: 'float32', dims: [1, 4] } }],
      facts: new Map(),
      nodes: [
        ...convolutions,
        node('GlobalAveragePool', ['r3'], ['average']),
        node('Flatten', ['average'], ['flat'], { axis: int(1) }),
        node('Gemm', ['flat', 'head'], ['y']),
      ],
      initializers: new Map([
        ['w0', weights(WIDTH, 3, 3, 3)],
        ['w1', weights(WIDTH, WIDTH, 3, 3)],
        ['w2', weights(WIDTH, WIDTH, 3, 3)],
        ['w3', weights(WIDTH, WIDTH, 3, 3)],
        ['head', weights(WIDTH, 4)],
      ]),
    },
    opsets: new Map([['', 13]]),
    irVersion: 8,
    producer: '',
    metadata: new Map<string, string>(),
    functions: [],
  }
  return writeModel(model)
}

/** Writes `count` small pictures of coloured noise. */
export async function writePictures(folder: string, count: number, seed = 1): Promise<string[]> {
  await mkdir(folder, { recursive: true })
  const random = seededRandom(seed)
  const paths: string[] = []
  for (let i = 0; i < count; i++) {
    const tint = [random(), random(), random()]
    const data = Uint8Array.from({ length: 3 * SIDE * SIDE }, (_, at) => Math.floor(255 * tint[at % 3]! * random()))
    const path = join(folder, `${String(i).padStart(3, '0')}.png`)
    await writeFile(path, await encodePng({ width: SIDE, height: SIDE, data }))
    paths.push(path)
  }
  return paths
}

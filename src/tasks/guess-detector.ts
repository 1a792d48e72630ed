import type { TensorType } from '../tensor/index.ts'

/** What a graph says about one of its inputs or outputs; a text is the name of a size that is not fixed. */
export interface ValueFact {
  readonly name: string
  readonly type: TensorType
  readonly dims?: readonly (number | string | undefined)[] | undefined
}

/** What a card says about a detector, and in words. */
export interface GuessedDetector {
  readonly task: 'detection' | 'face-detection'
  readonly output: Readonly<Record<string, unknown>>
  /** how networks of this family take pictures: fields of a card's input */
  readonly input: Readonly<Record<string, unknown>>
  /** task and output, then input */
  readonly says: readonly [string, string]
}

/** How each family is fed by the project that made it. */
const FED = {
  yolo: [
    { resize: 'letterbox', pad: 114, color: 'rgb', scale: 1 / 255, mean: 0, std: 1 },
    'the whole picture is fitted in, RGB, pixels divided by 255',
  ],
  yolox: [
    { resize: 'letterbox', align: 'top-left', pad: 114, color: 'bgr', scale: 1, mean: 0, std: 1 },
    'the whole picture is fitted in at the top left, BGR, pixels as they are, 0 to 255',
  ],
  nanodet: [
    { resize: 'letterbox', color: 'bgr', scale: 1, mean: [103.53, 116.28, 123.675], std: [57.375, 57.12, 58.395] },
    'the whole picture is fitted in, BGR, normalised as NanoDet wants it (mean 103.53 116.28 123.675, std 57.375 57.12 58.395)',
  ],
  yunet: [
    { resize: 'letterbox', color: 'bgr', scale: 1, mean: 0, std: 1 },
    'the whole picture is fitted in, BGR, pixels as they are, 0 to 255',
  ],
  fastestdet: [
    { resize: 'stretch', color: 'bgr', scale: 1 / 255, mean: 0, std: 1 },
    'the whole picture is stretched to the size, BGR, pixels divided by 255',
  ],
  ultraface: [
    { resize: 'stretch', color: 'rgb', scale: 1, mean: 127, std: 128 },
    'the whole picture is stretched to the size, RGB, (pixel − 127) / 128',
  ],
} as const

function guess(
  family: keyof typeof FED,
  task: GuessedDetector['task'],
  output: GuessedDetector['output'],
  says: string,
): GuessedDetector {
  const [input, how] = FED[family]
  return { task, output, input, says: [says, how] }
}

const STRIDES = [8, 16, 32]

/**
 * A detector known by the shapes of its outputs: families of detectors have one row for each cell of their grids, and these
 * numbers (2100 for 320 × 320, 8400 for 640 × 640) do not come about by chance. Undefined for everything else.
 *
 * @param size `[height, width]` of the input
 */
export function guessDetector(
  size: readonly [number, number],
  outputs: readonly ValueFact[],
): GuessedDetector | undefined {
  const shapes = outputs.map(({ dims = [] }) => dims)
  if (shapes.length === 0 || shapes.some((dims) => dims.slice(1).some((dim) => typeof dim !== 'number')))
    return undefined
  const values = outputs.map(({ name, dims }) => ({ name, dims: (dims ?? []).slice(1) as number[] }))
  return yunet(values) ?? nanodet(size, outputs) ?? oneOutput(size, values) ?? boxesAndScores(values)
}

type Values = readonly { readonly name: string; readonly dims: readonly number[] }[]

const cellsAt = ([height, width]: readonly [number, number], stride: number): number =>
  Math.ceil(height / stride) * Math.ceil(width / stride)

const cellsOf = (size: readonly [number, number]): number =>
  STRIDES.reduce((sum, stride) => sum + cellsAt(size, stride), 0)

/** `cls_8`, `obj_8`, `bbox_8`, `kps_8` and so on */
function yunet(values: Values): GuessedDetector | undefined {
  const names = STRIDES.flatMap((stride) => ['cls', 'obj', 'bbox', 'kps'].map((part) => `${part}_${stride}`))
  const isAll = values.length === names.length && names.every((name) => values.some((value) => value.name === name))
  if (!isAll) return undefined
  const says = 'the task is taken as face detection: outputs named as those of YuNet'
  return guess('yunet', 'face-detection', { decoder: 'yunet' }, says)
}

/** For each stride scores `[n, C]` and distances `[n, 4·bins]`, with or without a batch before them. */
function nanodet(size: readonly [number, number], outputs: readonly ValueFact[]): GuessedDetector | undefined {
  const rows = outputs.map(({ dims = [] }) => dims.slice(-2).map(Number))
  for (const strides of [STRIDES, [...STRIDES, 64]]) {
    if (rows.length !== 2 * strides.length) continue
    const widths = strides.map((stride) => {
      const cells = cellsAt(size, stride)
      return rows.filter(([count]) => count === cells).map(([, width]) => width!)
    })
    const common = (widths[0] ?? []).filter((width) =>
      widths.every((pair) => pair.length === 2 && pair.includes(width)),
    )
    // 80 classes are a multiple of 4 too: of two such widths the smaller one holds the distances
    const sides = Math.min(...common.filter((width) => width % 4 === 0 && width >= 8))
    const classes = common.find((width) => width !== sides)
    if (classes === undefined || !Number.isFinite(sides)) continue
    const says = `the task is taken as detection of ${classes} classes: scores and distances at each of ${strides.length} grids, as NanoDet has them`
    return guess('nanodet', 'detection', { decoder: 'nanodet', strides, bins: sides / 4 }, says)
  }
  return undefined
}

function oneOutput(size: readonly [number, number], values: Values): GuessedDetector | undefined {
  const [only, ...more] = values
  if (!only || more.length > 0) return undefined
  const [a = 0, b = 0, c = 0] = only.dims
  const cells = cellsOf(size)
  const joined = { decoder: 'boxes', joined: only.name, form: 'centre', unit: 'pixels' }
  const taken = (classes: number, like: string): string =>
    `the task is taken as detection of ${classes} classes: ${like}`
  if (only.dims.length === 2) {
    if (b === cells && a > 4) {
      const says = taken(a - 4, `a box at each of ${cells} cells, as YOLOv8 has them`)
      return guess('yolo', 'detection', { ...joined, transposed: true }, says)
    }
    if (a === 3 * cells && b > 5) {
      const says = taken(b - 5, `three boxes at each of ${cells} cells, as YOLOv5 has them`)
      return guess('yolo', 'detection', { ...joined, objectness: true }, says)
    }
    if (a === cells && b > 5) {
      const says = taken(b - 5, `a box at each of ${cells} cells, as YOLOX has them`)
      return guess('yolox', 'detection', { decoder: 'yolox', output: only.name }, says)
    }
  }
  const isOnGrid = b === Math.ceil(size[0] / 16) && c === Math.ceil(size[1] / 16)
  if (only.dims.length === 3 && isOnGrid && a > 6) {
    const says = taken(a - 5, 'one map of 1/16 of the input, as FastestDet has it')
    return guess('fastestdet', 'detection', { decoder: 'fastestdet', output: only.name }, says)
  }
  return undefined
}

/** `[1, N, 4]` and `[1, N, 2]`, named for what they are, as UltraFace has them. */
function boxesAndScores(values: Values): GuessedDetector | undefined {
  if (values.length !== 2) return undefined
  const boxes = values.find(({ name, dims }) => /box/i.test(name) && dims.length === 2 && dims[1] === 4)
  const scores = values.find(({ name, dims }) => /score/i.test(name) && dims.length === 2 && dims[1] === 2)
  if (!boxes || !scores || scores.dims[0] !== boxes.dims[0]) return undefined
  const says = `the task is taken as face detection: ${boxes.dims[0]} boxes and their scores, as UltraFace has them`
  const output = { decoder: 'ultraface', boxes: boxes.name, scores: scores.name }
  return guess('ultraface', 'face-detection', output, says)
}

import { BlockscaleError } from '../base/index.ts'
import type { Placement, Tensor } from '../tensor/index.ts'
import type { Candidate } from './candidates.ts'
import type { Decoder, OutputSpec } from './decoders.ts'
import { sigmoid, softmax } from './numbers.ts'
import { asFloats, outputOf } from './prepare.ts'
import type { Tensors } from './task.ts'

export type Detector = Extract<
  OutputSpec,
  { decoder: 'boxes' | 'ultraface' | 'ssd' | 'yolox' | 'yunet' | 'nanodet' | 'fastestdet' }
>

type Decode<D> = (outputs: Tensors, how: D, at: Placement, threshold: number) => Candidate[]

/** Every box above the threshold that a detector's outputs hold, before overlapping ones are dropped. */
export function candidatesOf(outputs: Tensors, how: Detector, at: Placement, threshold: number): Candidate[] {
  const decode = detectors[how.decoder] as Decode<Detector>
  return decode(outputs, how, at, threshold)
}

const detectors: { readonly [N in Detector['decoder']]: Decode<Decoder<N>> } = {
  boxes: (outputs, how, at, threshold) => {
    if (how.joined !== undefined) return joinedBoxes(outputOf(outputs, how.joined), how, at, threshold)
    const boxes = outputOf(outputs, how.boxes).data
    const scores = outputOf(outputs, how.scores)
    const count = boxes.length / 4
    if (how.classIndex !== undefined) {
      const classes = outputOf(outputs, how.classIndex).data
      return collect(count, threshold, (i) => [classes[i]!, scores.data[i]!], fourAt(boxes, how, at))
    }
    const best = bestClass(scores.data, scores.data.length / count, how)
    return collect(count, threshold, best, fourAt(boxes, how, at))
  },

  ultraface: (outputs, how, at, threshold) =>
    detectors.boxes(
      outputs,
      {
        ...how,
        decoder: 'boxes',
        form: 'corners',
        unit: 'fraction',
        background: 0,
        activation: 'none',
        transposed: false,
        objectness: false,
      },
      at,
      threshold,
    ),

  ssd: (outputs, how, at, threshold) => {
    const offsets = outputOf(outputs, how.boxes).data
    const scores = outputOf(outputs, how.scores).data
    const priors = priorsOf(how)
    expectLength(offsets.length, 4 * priors.length, `output "${how.boxes}" and the card's priors`)
    const [nearness, growth] = how.variances
    const [ix, iy] = how.yFirst ? [1, 0] : [0, 1]
    return collect(priors.length, threshold, bestClass(scores, scores.length / priors.length, how), (i) => {
      const [cx, cy, w, h] = priors[i]!
      const x = cx + offsets[4 * i + ix]! * nearness * w
      const y = cy + offsets[4 * i + iy]! * nearness * h
      return centred(
        x,
        y,
        w * Math.exp(offsets[4 * i + 2 + ix]! * growth),
        h * Math.exp(offsets[4 * i + 2 + iy]! * growth),
        at,
      )
    })
  },

  yolox: (outputs, how, at, threshold) => {
    const { data, dims } = outputOf(outputs, how.output)
    const width = dims.at(-1)!
    const cells = cellsOf(at, how.strides)
    expectLength(data.length / width, cells.length, 'rows of the output and cells of the strides')
    const on = how.sigmoid ? sigmoid : (x: number): number => x
    return collect(
      cells.length,
      threshold,
      (i) => {
        const [index, score] = greatestOf(data, i * width + 5, width - 5)
        return [index, on(score) * on(data[i * width + 4]!)]
      },
      (i) => {
        const { x, y, stride } = cells[i]!
        const [cx, cy, w, h] = [0, 1, 2, 3].map((k) => data[i * width + k]!) as [number, number, number, number]
        return middle((x + cx) * stride, (y + cy) * stride, Math.exp(w) * stride, Math.exp(h) * stride)
      },
    )
  },

  yunet: (outputs, how, at, threshold) =>
    how.strides.flatMap((stride) => {
      const [cls, obj, box, points] = ['cls', 'obj', 'bbox', 'kps'].map(
        (name) => outputOf(outputs, `${name}_${stride}`).data,
      ) as [Float32Array, Float32Array, Float32Array, Float32Array]
      const cells = cellsOf(at, [stride])
      expectLength(cls.length, cells.length, `output "cls_${stride}" and the cells of its stride`)
      const clip = (score: number): number => Math.min(Math.max(score, 0), 1)
      return collect(
        cells.length,
        threshold,
        (i) => [0, Math.sqrt(clip(cls[i]!) * clip(obj[i]!))],
        (i) => {
          const { x, y } = cells[i]!
          const size = [2, 3].map((k) => Math.exp(box[4 * i + k]!) * stride) as [number, number]
          const landmarks = Array.from({ length: 10 }, (_, k) => (points[10 * i + k]! + (k % 2 === 0 ? x : y)) * stride)
          return { ...middle((x + box[4 * i]!) * stride, (y + box[4 * i + 1]!) * stride, ...size), landmarks }
        },
      )
    }),

  nanodet: (outputs, how, at, threshold) =>
    how.strides.flatMap((stride) => {
      const cells = cellsOf(at, [stride])
      const { scores, distances, classes } = levelOf(outputs, cells.length, 4 * how.bins, stride)
      const on = how.sigmoid ? sigmoid : (x: number): number => x
      return collect(
        cells.length,
        threshold,
        (i) => {
          const [index, score] = greatestOf(scores, i * classes, classes)
          return [index, on(score)]
        },
        (i) => {
          const [left, top, right, bottom] = [0, 1, 2, 3].map((side) =>
            expected(distances, (4 * i + side) * how.bins, how.bins, stride),
          ) as [number, number, number, number]
          const cx = (cells[i]!.x + how.cellCentre) * stride
          const cy = (cells[i]!.y + how.cellCentre) * stride
          return { x1: cx - left, y1: cy - top, x2: cx + right, y2: cy + bottom }
        },
      )
    }),

  fastestdet: (outputs, how, at, threshold) => {
    const { data, dims } = outputOf(outputs, how.output)
    const [channels, rows, columns] = dims.slice(-3) as [number, number, number]
    const plane = rows * columns
    const value = (channel: number, cell: number): number => data[channel * plane + cell]!
    return collect(
      plane,
      threshold,
      (i) => {
        let index = 0
        for (let c = 1; c < channels - 5; c++) if (value(5 + c, i) > value(5 + index, i)) index = c
        return [index, value(0, i) ** how.objectPower * value(5 + index, i) ** (1 - how.objectPower)]
      },
      (i) => {
        const cx = (Math.tanh(value(1, i)) + (i % columns)) / columns
        const cy = (Math.tanh(value(2, i)) + Math.floor(i / columns)) / rows
        return centred(cx, cy, sigmoid(value(3, i)), sigmoid(value(4, i)), at)
      },
    )
  },
}

type Corners = Omit<Candidate, 'index' | 'score'>

/** `best` gives class and score of a box; most boxes end there, so corners are only asked for of the others. */
function collect(
  count: number,
  threshold: number,
  best: (i: number) => readonly [index: number, score: number],
  cornersOf: (i: number) => Corners,
): Candidate[] {
  const found: Candidate[] = []
  for (let i = 0; i < count; i++) {
    const [index, score] = best(i)
    if (score >= threshold) found.push({ index, score, ...cornersOf(i) })
  }
  return found
}

function greatestOf(data: Float32Array, from: number, count: number): [index: number, value: number] {
  let index = 0
  for (let c = 1; c < count; c++) if (data[from + c]! > data[from + index]!) index = c
  return [index, data[from + index]!]
}

const middle = (cx: number, cy: number, w: number, h: number): Corners => ({
  x1: cx - w / 2,
  y1: cy - h / 2,
  x2: cx + w / 2,
  y2: cy + h / 2,
})

/** Fractions of the network's input as its pixels. */
const centred = (cx: number, cy: number, w: number, h: number, at: Placement): Corners =>
  middle(cx * at.networkWidth, cy * at.networkHeight, w * at.networkWidth, h * at.networkHeight)

type BoxForm = Pick<Decoder<'boxes'>, 'form' | 'unit'>

function fourAt(boxes: Float32Array, { form, unit }: BoxForm, at: Placement): (i: number) => Corners {
  const sx = unit === 'fraction' ? at.networkWidth : 1
  const sy = unit === 'fraction' ? at.networkHeight : 1
  return (i) => {
    const [a, b, c, d] = boxes.subarray(4 * i, 4 * i + 4) as unknown as [number, number, number, number]
    switch (form) {
      case 'corners':
        return { x1: a * sx, y1: b * sy, x2: c * sx, y2: d * sy }
      case 'corners-yx':
        return { x1: b * sx, y1: a * sy, x2: d * sx, y2: c * sy }
      case 'corner-size':
        return { x1: a * sx, y1: b * sy, x2: (a + c) * sx, y2: (b + d) * sy }
      case 'centre':
        return middle(a * sx, b * sy, c * sx, d * sy)
    }
  }
}

type Scoring = { readonly activation: 'none' | 'softmax' | 'sigmoid'; readonly background?: number | undefined }

/** The best class that is not background, as an index among the labels. */
function bestClass(scores: Float32Array, classes: number, how: Scoring): (i: number) => readonly [number, number] {
  return (i) => {
    const row = scores.subarray(i * classes, (i + 1) * classes)
    const values: ArrayLike<number> = how.activation === 'softmax' ? softmax(row) : row
    let best = -1
    for (let c = 0; c < classes; c++) {
      if (c !== how.background && (best < 0 || values[c]! > values[best]!)) best = c
    }
    const score = values[best] ?? 0
    const index = how.background !== undefined && best > how.background ? best - 1 : best
    return [index, how.activation === 'sigmoid' ? sigmoid(score) : score]
  }
}

/** [1, N, 4+C], or [1, 4+C, N] when `transposed`: four numbers of the box, perhaps an object score, class scores. */
function joinedBoxes(
  { data, dims }: Tensor<'float32'>,
  how: Decoder<'boxes'>,
  at: Placement,
  threshold: number,
): Candidate[] {
  const width = dims.at(how.transposed ? -2 : -1)!
  const count = data.length / width
  const first = how.objectness ? 5 : 4
  const boxes = new Float32Array(4 * count)
  const scores = new Float32Array((width - first) * count)
  const value = (i: number, k: number): number => (how.transposed ? data[k * count + i]! : data[i * width + k]!)
  for (let i = 0; i < count; i++) {
    for (let k = 0; k < 4; k++) boxes[4 * i + k] = value(i, k)
    for (let k = first; k < width; k++) scores[i * (width - first) + k - first] = value(i, k)
  }
  const classOf = bestClass(scores, width - first, how)
  const object = (i: number): number => {
    if (!how.objectness) return 1
    return how.activation === 'sigmoid' ? sigmoid(value(i, 4)) : value(i, 4)
  }
  return collect(
    count,
    threshold,
    (i) => {
      const [index, score] = classOf(i)
      return [index, score * object(i)]
    },
    fourAt(boxes, how, at),
  )
}

/** Centres and sizes as fractions of the input, cell by cell. */
function priorsOf(how: Decoder<'ssd'>): [cx: number, cy: number, w: number, h: number][] {
  return how.priors.flatMap(({ grid: [rows, columns], boxes }) =>
    Array.from({ length: rows * columns }, (_, cell) =>
      boxes.map(([w, h]): [number, number, number, number] => [
        ((cell % columns) + 0.5) / columns,
        (Math.floor(cell / columns) + 0.5) / rows,
        w,
        h,
      ]),
    ).flat(),
  )
}

/** The cells of each stride's grid in turn, row by row. */
function cellsOf(at: Placement, strides: readonly number[]): { x: number; y: number; stride: number }[] {
  return strides.flatMap((stride) => {
    const columns = Math.ceil(at.networkWidth / stride)
    const rows = Math.ceil(at.networkHeight / stride)
    return Array.from({ length: rows * columns }, (_, i) => ({ x: i % columns, y: Math.floor(i / columns), stride }))
  })
}

/** The mean of a distribution over `bins` distances, in pixels. */
function expected(data: Float32Array, from: number, bins: number, stride: number): number {
  const shares = softmax(data, from, bins)
  return shares.reduce((sum, share, bin) => sum + share * bin, 0) * stride
}

/** Of all outputs the two with one row for each cell: the one `sides` wide holds distances, the other one scores. */
function levelOf(
  outputs: Tensors,
  cells: number,
  sides: number,
  stride: number,
): { scores: Float32Array; distances: Float32Array; classes: number } {
  const own = Object.values(outputs).filter(({ dims, data }) => data.length === cells * dims.at(-1)!)
  const distances = own.find(({ dims }) => dims.at(-1) === sides)
  const scores = own.find((each) => each !== distances)
  if (!distances || !scores) {
    throw new BlockscaleError(
      'MODEL_CARD_INVALID',
      `no two outputs hold scores and distances for the ${cells} cells of stride ${stride}`,
      'Correct "strides" and "bins" in the card, or its "decoder".',
    )
  }
  return { scores: asFloats(scores).data, distances: asFloats(distances).data, classes: scores.dims.at(-1)! }
}

function expectLength(has: number, needs: number, what: string): void {
  if (has === needs) return
  throw new BlockscaleError(
    'MODEL_CARD_INVALID',
    `${what} do not go together: ${has} against ${needs}`,
    'Correct the parameters of the decoder in the card.',
  )
}

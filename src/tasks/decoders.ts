import { z } from 'zod'

/** An object that refuses unknown fields by telling which there are. */
export const strict = <S extends z.core.$ZodLooseShape>(shape: S) =>
  z.strictObject(shape, {
    error: (issue) =>
      issue.code === 'unrecognized_keys'
        ? `unknown field ${issue.keys.map((key) => `"${key}"`).join(', ')}; allowed are ${Object.keys(shape).join(', ')}`
        : undefined,
  })

const fraction = z.number().min(0).max(1)
const positive = z.number().positive()
const strides = z.array(z.number().int().positive()).min(1)
const list = z.union([z.string().min(1), z.array(z.string())])

/** `labels`: the classes in the network's order, as a file (one for each line) beside the card or as a list. */
const labels = { labels: list.optional() }

/** What every detector takes: candidates below `threshold` are dropped, then overlapping ones by `nms` (IoU, each class by itself). */
const detector = (threshold: number, nms: number) => ({
  ...labels,
  threshold: fraction.default(threshold),
  nms: fraction.default(nms),
  maxBoxes: z.number().int().positive().default(100),
})

const classifier = {
  ...labels,
  /** names of the class folders of labelled pictures where they are not the labels (WordNet ids, say), in the same order */
  classes: list.optional(),
  /** the output with the scores; the first unless given */
  output: z.string().optional(),
}

const boxLayout = {
  /** corners: x1 y1 x2 y2; corners-yx: y1 x1 y2 x2; centre: cx cy w h; corner-size: x y w h */
  form: z.enum(['corners', 'corners-yx', 'centre', 'corner-size']).default('corners'),
  /** fraction: 0…1 of the network's input; pixels of it otherwise */
  unit: z.enum(['fraction', 'pixels']).default('fraction'),
}

const activation = z.enum(['none', 'softmax', 'sigmoid'])

export const decoderSchemas = {
  /** logits, one for each class */
  softmax: strict({ decoder: z.literal('softmax'), ...classifier }),
  probabilities: strict({ decoder: z.literal('probabilities'), ...classifier }),

  /**
   * Boxes that the graph itself has decoded, and their scores: in two outputs (`boxes` [1,N,4], `scores` [1,N,C]), with a
   * third one of class indices (`classIndex` [N]; then `scores` is [N]), or joined in one ([1,N,4+C], as in YOLOv5 and v8).
   */
  boxes: strict({
    decoder: z.literal('boxes'),
    ...detector(0.25, 0.45),
    ...boxLayout,
    boxes: z.string().optional(),
    scores: z.string().optional(),
    classIndex: z.string().optional(),
    /** the one output that holds boxes, then scores */
    joined: z.string().optional(),
    /** the joined output is [1, 4+C, N] */
    transposed: z.boolean().default(false),
    /** the first score is that of any object at all; it multiplies the others */
    objectness: z.boolean().default(false),
    /** the class index that means nothing; it is not among the labels */
    background: z.number().int().min(0).optional(),
    activation: activation.default('none'),
  }),
  ultraface: strict({
    decoder: z.literal('ultraface'),
    ...detector(0.7, 0.3),
    boxes: z.string().default('boxes'),
    scores: z.string().default('scores'),
  }),
  /** Offsets from prior boxes: centre = prior centre + variance·t·prior size, size = prior size · exp(variance·t). */
  ssd: strict({
    decoder: z.literal('ssd'),
    ...detector(0.5, 0.45),
    boxes: z.string(),
    scores: z.string(),
    /** in the order of the outputs: on a grid of [rows, columns], at each cell boxes of [width, height] as fractions of the input */
    priors: z
      .array(
        strict({
          grid: z.tuple([z.number().int().positive(), z.number().int().positive()]),
          boxes: z.array(z.tuple([positive, positive])).min(1),
        }),
      )
      .min(1),
    variances: z.tuple([positive, positive]).default([0.1, 0.2]),
    /** y before x, as TensorFlow writes them */
    yFirst: z.boolean().default(false),
    background: z.number().int().min(0).optional(),
    activation: activation.default('none'),
  }),
  /** [1, N, 5+C]: cx cy log-w log-h in units of the stride, object score, class scores (both after their sigmoid unless `sigmoid`) */
  yolox: strict({
    decoder: z.literal('yolox'),
    ...detector(0.25, 0.45),
    output: z.string().optional(),
    strides: strides.default([8, 16, 32]),
    sigmoid: z.boolean().default(false),
  }),
  /** cls_S, obj_S, bbox_S, kps_S for each stride S; score √(cls·obj) */
  yunet: strict({ decoder: z.literal('yunet'), ...detector(0.6, 0.3), strides: strides.default([8, 16, 32]) }),
  /** for each stride scores [n, C] and distributions over distances to four sides [n, 4·bins]; told apart by their shapes */
  nanodet: strict({
    decoder: z.literal('nanodet'),
    ...detector(0.4, 0.6),
    strides: strides.default([8, 16, 32]),
    bins: z.number().int().positive().default(8),
    /** where the cell that a distance counts from has its point: 0 at its top left, 0.5 in the middle */
    cellCentre: z.number().default(0.5),
    sigmoid: z.boolean().default(false),
  }),
  /** [1, 5+C, h, w]: object score, tx ty tw th, class scores; score obj^objectPower · cls^(1−objectPower) */
  fastestdet: strict({
    decoder: z.literal('fastestdet'),
    ...detector(0.4, 0.45),
    output: z.string().optional(),
    objectPower: fraction.default(0.6),
  }),

  /** [1, C, h, w] scores for each class and pixel; the greatest wins */
  argmax: strict({
    decoder: z.literal('argmax'),
    ...labels,
    output: z.string().optional(),
    /** the class that stands for nothing; it counts in no quality */
    background: z.number().int().min(0).optional(),
  }),
  /** [1, 1, h, w] one score for each pixel: class 1 where it is above the threshold, else class 0 */
  binary: strict({
    decoder: z.literal('binary'),
    ...labels,
    output: z.string().optional(),
    threshold: z.number().default(0.5),
    background: z.number().int().min(0).optional(),
  }),

  /** A picture `scale` times as large, its values `range` times less than 0…255. Networks of one channel make luma; colour is scaled by bicubic. */
  upscale: strict({
    decoder: z.literal('upscale'),
    output: z.string().optional(),
    scale: z.number().int().min(1).max(8).default(2),
    range: positive.default(255),
    /** pixels that neighbouring tiles share, in the small picture */
    overlap: z.number().int().min(0).default(16),
  }),

  /** the outputs as they are */
  none: strict({ decoder: z.literal('none') }),
} as const

export type DecoderName = keyof typeof decoderSchemas

export const outputSchema = z.discriminatedUnion('decoder', [
  decoderSchemas.softmax,
  decoderSchemas.probabilities,
  decoderSchemas.boxes,
  decoderSchemas.ultraface,
  decoderSchemas.ssd,
  decoderSchemas.yolox,
  decoderSchemas.yunet,
  decoderSchemas.nanodet,
  decoderSchemas.fastestdet,
  decoderSchemas.argmax,
  decoderSchemas.binary,
  decoderSchemas.upscale,
  decoderSchemas.none,
])

export type OutputSpec = z.output<typeof outputSchema>
export type Decoder<N extends DecoderName> = Extract<OutputSpec, { decoder: N }>

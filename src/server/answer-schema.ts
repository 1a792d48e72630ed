import { z } from 'zod'

const served = {
  picture: z.object({ width: z.int(), height: z.int() }).meta({ description: 'of the upright picture, in pixels' }),
  plan: z.string().meta({ description: 'id of the plan whose blocks answered' }),
  latencyMs: z.number().meta({ description: 'time of the network itself' }),
  queueMs: z.number(),
  quality: z.number().meta({ description: 'expected of that plan, in the metric of the model' }),
  gear: z.enum(['chain', 'fused']),
}

const png = z.string().meta({ description: 'PNG in base64', contentEncoding: 'base64', contentMediaType: 'image/png' })

const box = z
  .object({
    label: z.string(),
    score: z.number(),
    box: z.tuple([z.number(), z.number(), z.number(), z.number()]).meta({ description: 'x1, y1, x2, y2 in pixels' }),
    landmarks: z.array(z.number()).optional().meta({ description: 'x and y of each point' }),
  })
  .meta({ id: 'Box' })

/** What a task says of a picture, and what the answer cost. */
export const answer = z
  .discriminatedUnion('task', [
    z
      .object({
        task: z.literal('classification'),
        labels: z.array(z.object({ label: z.string(), index: z.int(), score: z.number() })),
        ...served,
      })
      .meta({ id: 'LabelsAnswer' }),
    z
      .object({ task: z.enum(['detection', 'face-detection']), boxes: z.array(box), ...served })
      .meta({ id: 'BoxesAnswer' }),
    z
      .object({
        task: z.literal('segmentation'),
        width: z.int(),
        height: z.int(),
        classes: z.array(z.object({ index: z.int(), label: z.string(), share: z.number() })),
        mask: png,
        ...served,
      })
      .meta({ id: 'MaskAnswer' }),
    z
      .object({ task: z.literal('super-resolution'), width: z.int(), height: z.int(), image: png, ...served })
      .meta({ id: 'ImageAnswer' }),
    z
      .object({
        task: z.literal('generic'),
        outputs: z.array(
          z.object({
            name: z.string(),
            type: z.string(),
            dims: z.array(z.int()),
            min: z.number().optional(),
            max: z.number().optional(),
            mean: z.number().optional(),
          }),
        ),
        ...served,
      })
      .meta({ id: 'OutputsAnswer' }),
  ])
  .meta({ id: 'Answer' })

export type AnswerJson = z.infer<typeof answer>

import { encodePng, numbersOf, type Tensor } from '../tensor/index.ts'
import type { Answer, Tensors } from './task.ts'

export interface JsonLabel {
  readonly label: string
  readonly index: number
  readonly score: number
}

export interface JsonBox {
  readonly label: string
  readonly score: number
  /** x1, y1, x2, y2 in pixels of the upright picture */
  readonly box: readonly [number, number, number, number]
  /** x and y of each point */
  readonly landmarks?: readonly number[]
}

export interface JsonOutput {
  readonly name: string
  readonly type: string
  readonly dims: readonly number[]
  readonly min?: number
  readonly max?: number
  readonly mean?: number
}

/** What HTTP routes answer and commands print; pictures and masks as PNG in base64. */
export type AnswerJson =
  | { readonly labels: readonly JsonLabel[] }
  | { readonly boxes: readonly JsonBox[] }
  | {
      readonly width: number
      readonly height: number
      readonly classes: readonly { readonly index: number; readonly label: string; readonly share: number }[]
      readonly mask: string
    }
  | { readonly width: number; readonly height: number; readonly image: string }
  | { readonly outputs: readonly JsonOutput[] }

/** An answer in the form in which it leaves the program. */
export async function answerJson(answer: Answer): Promise<AnswerJson> {
  switch (answer.task) {
    case 'classification':
      return { labels: answer.labels.map((each) => ({ ...each, score: round(each.score, 6) })) }
    case 'detection':
    case 'face-detection':
      return {
        boxes: answer.boxes.map(({ label, score, xMin, yMin, xMax, yMax, landmarks }) => ({
          label,
          score: round(score, 4),
          box: [round(xMin, 1), round(yMin, 1), round(xMax, 1), round(yMax, 1)] as const,
          ...(landmarks ? { landmarks: landmarks.map((value) => round(value, 1)) } : {}),
        })),
      }
    case 'segmentation': {
      const { width, height, mask } = answer
      const classes = answer.classes.map((each) => ({ ...each, share: round(each.share, 4) }))
      return { width, height, classes, mask: base64(await encodePng({ width, height, data: mask })) }
    }
    case 'super-resolution': {
      const { width, height } = answer.picture
      return { width, height, image: base64(await encodePng(answer.picture)) }
    }
    case 'generic':
      return { outputs: summaries(answer.outputs) }
  }
}

function summaries(outputs: Tensors): JsonOutput[] {
  return Object.entries(outputs).map(([name, value]) => ({ name, type: value.type, dims: value.dims, ...range(value) }))
}

function range(value: Tensor): { min?: number; max?: number; mean?: number } {
  // the bits of 16-bit floats say nothing as numbers
  if (value.type === 'string' || value.type === 'float16' || value.type === 'bfloat16' || value.data.length === 0) {
    return {}
  }
  let min = Number.POSITIVE_INFINITY
  let max = Number.NEGATIVE_INFINITY
  let sum = 0
  for (const number of numbersOf(value)) {
    min = Math.min(min, number)
    max = Math.max(max, number)
    sum += number
  }
  return { min, max, mean: sum / value.data.length }
}

const round = (value: number, digits: number): number => Number(value.toFixed(digits))
const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64')

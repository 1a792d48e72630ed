import { z } from 'zod'
import { taskNames } from '../tasks/index.ts'

export const answer = z
  .looseObject({ task: z.enum(taskNames), plan: z.string(), latencyMs: z.number(), quality: z.number() })
  .meta({ id: 'Answer' })
export type AnswerJson = z.infer<typeof answer>

import type { Answer } from '../tasks/index.ts'
export const answerJson = async (answer: Answer): Promise<Record<string, unknown>> => ({ ...answer })

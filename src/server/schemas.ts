import { z } from 'zod'
import { isName } from '../base/index.ts'
import { taskNames } from '../tasks/index.ts'

/** The JSON of the native routes. What checks a request here also describes it in `/openapi.json`. */

export const name = z
  .string()
  .refine(isName, 'must be 1 to 64 letters, digits, dots, dashes or underscores')
  .meta({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$' })

/** Which model a path is about. */
export const modelName = name.meta({ example: 'sign-detector' })

/** Ids of workloads; the service itself makes `default:<model>`. */
export const workloadName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/, 'must be 1 to 128 letters, digits, dots, colons, dashes or underscores')
  .meta({ example: 'door' })

const positive = z.number().positive()
const size = z.tuple([z.int(), z.int()]).meta({ description: 'height, width' })

export const workload = z
  .strictObject({
    model: name.meta({ description: 'a model that is built in the zoo' }),
    maxLatencyMs: positive.optional().meta({ description: 'limit for the time of one picture' }),
    rate: z.number().nonnegative().optional().meta({ description: 'pictures per second' }),
    weight: positive.optional().meta({ description: 'how much the quality of this model counts; 1 unless given' }),
    minQuality: z.number().optional().meta({ description: 'floor, in the metric of the model' }),
  })
  .meta({ id: 'Workload', example: { model: 'sign-detector', maxLatencyMs: 100, rate: 10 } })

export const namedWorkload = workload.extend({ id: workloadName }).meta({ id: 'NamedWorkload' })

export const budget = z
  .strictObject({
    memoryBytes: positive.optional().meta({ description: 'for all models together; absent: no limit' }),
    cores: positive.optional().meta({ description: 'CPU cores that may be planned, such as 1.5; absent: all workers' }),
  })
  .meta({ id: 'Budget', example: { memoryBytes: 64_000_000 } })

export const budgetInUse = budget.extend({ usedBytes: z.number() }).meta({ id: 'BudgetInUse' })

const figures = z
  .object({ quality: z.number(), latencyMs: z.number(), memoryBytes: z.number() })
  .meta({ id: 'Figures' })

const plannedModel = z
  .object({
    model: z.string(),
    variant: z.string().optional(),
    inputSize: size.optional(),
    choices: z.array(
      z.object({
        block: z.string(),
        descendant: z.string(),
        streamed: z
          .literal(true)
          .optional()
          .meta({ description: 'mapped for each picture in place of staying loaded' }),
      }),
    ),
    streaming: z.object({ windowBytes: z.number(), readBytesPerSecond: z.number() }).optional().meta({
      description: 'where blocks are streamed: the memory that they share, and the measured speed of the disk',
    }),
    predicted: figures.extend({ qualityLow: z.number().optional() }),
    verified: figures.optional(),
    core: z.number().optional(),
  })
  .meta({ id: 'PlannedModel' })

export const plan = z
  .object({
    status: z.enum(['optimal', 'feasible', 'infeasible']),
    objective: z.number().optional(),
    bound: z.number().optional(),
    gap: z.number().optional(),
    solveMs: z.number(),
    models: z.array(plannedModel),
    totals: z.object({ memoryBytes: z.number(), cores: z.number() }).optional(),
    binding: z.array(z.string()).meta({ description: 'limits that hold with no room left' }),
    infeasible: z
      .object({ constraint: z.string(), model: z.string().optional(), needs: z.number(), has: z.number() })
      .optional()
      .meta({ description: 'which limit cannot be kept, and the least value with which it could' }),
  })
  .meta({ id: 'Plan' })

const liveModel = plannedModel
  .extend({
    blocks: z.array(
      z.object({
        id: z.string(),
        descendant: z.string(),
        kind: z.string(),
        bytes: z.number(),
        streamed: z.literal(true).optional(),
      }),
    ),
    measured: z
      .object({
        latencyMs: z.number().nullable(),
        p95: z.number().nullable(),
        count: z.number(),
        memoryBytes: z.number(),
      })
      .meta({ description: 'of the most recent requests on this deployment' }),
    gear: z.enum(['chain', 'fused']),
    core: z.number(),
    replicas: z.array(z.number()).meta({
      description: 'further engines that run the model while they have nothing of their own to do',
    }),
    batch: z.number().meta({ description: 'waiting frames that may run at once' }),
    state: z.enum(['ready', 'swapping', 'failed']),
  })
  .meta({ id: 'LiveModel' })

export const livePlan = plan
  .extend({
    id: z.string().meta({ description: 'of the plan in force; empty when nothing is loaded' }),
    models: z.array(liveModel),
    unserved: z
      .array(z.object({ id: z.string(), model: z.string(), why: z.string() }))
      .meta({ description: 'workloads that cannot be served since the start, and why; tried again with every change' }),
    memory: z.object({
      limitBytes: z.number().optional(),
      plannedBytes: z.number(),
      measuredBytes: z.number(),
    }),
  })
  .meta({ id: 'LivePlan' })

export const swap = z
  .object({
    from: z.string().nullable(),
    to: z.string(),
    models: z.array(
      z.object({
        model: z.string(),
        changed: z.array(z.object({ block: z.string(), from: z.string().nullable(), to: z.string().nullable() })),
      }),
    ),
    bytes: z.number().meta({ description: 'of the block files that had to be loaded' }),
    ms: z.number(),
    why: z.string(),
  })
  .meta({ id: 'Swap' })

export const change = z
  .object({ plan, swap: swap.nullable().meta({ description: 'null when the plan in force stays' }) })
  .meta({ id: 'Change' })

export const whatIf = z
  .strictObject({
    workloads: z.record(workloadName, workload).optional().meta({ description: 'in place of the workloads in force' }),
    budget: budget.optional(),
    objective: z.enum(['quality', 'latency', 'memory', 'cpu']).optional(),
  })
  .meta({ id: 'WhatIf', example: { budget: { memoryBytes: 2_000_000 } } })

const frontierPoint = figures
  .extend({
    qualityLow: z.number(),
    inputSize: size,
    choices: z.array(z.object({ block: z.string(), descendant: z.string() })),
  })
  .meta({ id: 'FrontierPoint' })

export const frontier = z
  .object({
    model: z.string(),
    original: frontierPoint,
    latency: z.array(frontierPoint).meta({ description: 'the best quality for each latency, the fastest first' }),
    memory: z.array(frontierPoint).meta({ description: 'the best quality for each memory, the smallest first' }),
    tolerance: z.number().meta({ description: '0: no point was missed; otherwise by how much loss at most' }),
  })
  .meta({ id: 'Frontier' })

const border = z.object({
  name: z.string(),
  type: z.string(),
  dims: z.array(z.union([z.number(), z.string()]).nullable()).optional(),
})

export const modelSummary = z
  .object({
    model: z.string(),
    task: z.enum(taskNames),
    loaded: z.boolean().meta({ description: 'whether a workload asks for it, so that requests are answered' }),
    reason: z.string().optional().meta({ description: 'why a model that is asked for cannot answer' }),
    sizes: z.array(size),
    inputs: z.array(border),
    outputs: z.array(border),
    blocks: z.array(
      z.object({
        id: z.string(),
        descendants: z.array(z.object({ id: z.string(), kind: z.string(), bytes: z.number() })),
      }),
    ),
    options: z.number().meta({ description: 'number of models that the blocks can be combined to' }),
    labels: z.array(z.string()).optional(),
  })
  .meta({ id: 'Model' })

export const failure = z
  .object({ error: z.object({ code: z.string(), message: z.string(), hint: z.string() }) })
  .meta({ id: 'Failure' })

/** A query parameter that holds a number. */
export const numeric = z
  .string()
  .refine((text) => text.trim() !== '' && Number.isFinite(Number(text)), 'must be a number')
  .transform(Number)

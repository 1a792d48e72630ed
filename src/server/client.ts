import type { z } from 'zod'
import type { AnswerJson } from './answer-schema.ts'
import type {
  budget,
  budgetInUse,
  change,
  livePlan,
  modelSummary,
  namedWorkload,
  plan,
  swap,
  whatIf,
  workload,
} from './schemas.ts'

export type WorkloadJson = z.infer<typeof workload>
export type NamedWorkloadJson = z.infer<typeof namedWorkload>
export type BudgetJson = z.infer<typeof budget>
export type BudgetInUseJson = z.infer<typeof budgetInUse>
export type PlanJson = z.infer<typeof plan>
export type LivePlanJson = z.infer<typeof livePlan>
export type SwapJson = z.infer<typeof swap>
export type ChangeJson = z.infer<typeof change>
export type ModelJson = z.infer<typeof modelSummary>
export type WhatIfJson = z.infer<typeof whatIf>
export type { AnswerJson }

/** An answer, or why this model has none. */
export type AnswerOrFailure =
  | AnswerJson
  | { readonly error: { readonly code: string; readonly message: string; readonly hint: string } }

export interface StreamAnswer {
  /** counts the frames that were sent, from 1 */
  readonly frame: number
  /** frames that a newer one replaced before they were looked at */
  readonly dropped: number
  readonly answers?: Readonly<Record<string, AnswerOrFailure>>
  readonly error?: { readonly code: string; readonly message: string; readonly hint: string }
}

export interface ServerEvent {
  readonly id: number | undefined
  readonly kind: string
  readonly data: unknown
}

/** The service said no; `code` is one of those in docs/errors.md. */
export class RequestFailed extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly hint: string,
    /** seconds after which trying again makes sense, where the service says so */
    readonly retryAfter: number | undefined,
  ) {
    super(message)
    this.name = 'RequestFailed'
  }
}

export interface ClientOptions {
  readonly token?: string | undefined
}

/** A stream of frames to some models; see `GET /v1/stream`. */
export interface FrameStream {
  send(picture: Uint8Array<ArrayBuffer>): void
  /** Answers in the order in which they come, until the stream is closed. */
  answers(): AsyncGenerator<StreamAnswer>
  close(): void
}

/**
 * The native routes as typed calls. Needs only `fetch` and `WebSocket`, so it runs in Node, browsers and other runtimes.
 *
 *     const client = createClient('http://127.0.0.1:8080')
 *     await client.putWorkload('door', { model: 'ultraface-rfb-320', maxLatencyMs: 30 })
 *     const answer = await client.predict('ultraface-rfb-320', await readFile('door.jpg'))
 *
 * Every call throws RequestFailed when the service refuses.
 */
export function createClient(url: string, options: ClientOptions = {}) {
  const headers: Record<string, string> = options.token ? { Authorization: `Bearer ${options.token}` } : {}
  const at = (path: string): URL => new URL(path, url)

  async function call<T>(
    method: string,
    path: string,
    body?: string | Uint8Array<ArrayBuffer>,
    signal?: AbortSignal,
  ): Promise<T> {
    const response = await fetch(at(path), {
      method,
      headers,
      ...(body === undefined ? {} : { body }),
      ...(signal ? { signal } : {}),
    })
    if (!response.ok) throw await failureOf(response)
    return (await response.json()) as T
  }

  const json = (value: unknown): string => JSON.stringify(value)
  const segment = encodeURIComponent

  return {
    models: async (): Promise<readonly ModelJson[]> =>
      (await call<{ models: ModelJson[] }>('GET', '/v1/models')).models,
    workloads: async (): Promise<readonly NamedWorkloadJson[]> =>
      (await call<{ workloads: NamedWorkloadJson[] }>('GET', '/v1/workloads')).workloads,
    putWorkload: (id: string, workload: WorkloadJson): Promise<ChangeJson & { workload: NamedWorkloadJson }> =>
      call('PUT', `/v1/workloads/${segment(id)}`, json(workload)),
    deleteWorkload: (id: string): Promise<ChangeJson> => call('DELETE', `/v1/workloads/${segment(id)}`),
    budget: (): Promise<BudgetInUseJson> => call('GET', '/v1/budget'),
    setBudget: (budget: BudgetJson): Promise<ChangeJson & { budget: BudgetInUseJson }> =>
      call('PUT', '/v1/budget', json(budget)),
    plan: (): Promise<LivePlanJson> => call('GET', '/v1/plan'),
    whatIf: (request: WhatIfJson): Promise<PlanJson> => call('POST', '/v1/plan', json(request)),
    /** One picture (JPEG, PNG or WebP bytes) through one model. */
    predict: (
      model: string,
      picture: Uint8Array<ArrayBuffer>,
      request: { deadlineMs?: number; signal?: AbortSignal } = {},
    ): Promise<AnswerJson> =>
      call(
        'POST',
        `/v1/models/${segment(model)}/predict${deadlineQuery(request.deadlineMs, '?')}`,
        picture,
        request.signal,
      ),
    /** One picture through several models, decoded once. */
    frame: async (
      models: readonly string[],
      picture: Uint8Array<ArrayBuffer>,
      request: { deadlineMs?: number; signal?: AbortSignal } = {},
    ): Promise<Readonly<Record<string, AnswerOrFailure>>> => {
      const query = `models=${models.map(segment).join(',')}${deadlineQuery(request.deadlineMs, '&')}`
      return (
        await call<{ answers: Record<string, AnswerOrFailure> }>('POST', `/v1/frames?${query}`, picture, request.signal)
      ).answers
    },
    /** Plan changes, swaps and limits, until `signal` ends it; the first event is `live` with the plan in force. */
    async *events(signal?: AbortSignal): AsyncGenerator<ServerEvent> {
      const response = await fetch(at('/v1/events'), { headers, ...(signal ? { signal } : {}) })
      if (!response.ok || !response.body) throw await failureOf(response)
      yield* readEvents(response.body)
    },
    stream: (models: readonly string[]): Promise<FrameStream> => {
      const address = at(`/v1/stream?models=${models.map(segment).join(',')}`)
      address.protocol = address.protocol === 'https:' ? 'wss:' : 'ws:'
      return openFrames(address, options.token)
    },
  }
}

export type Client = ReturnType<typeof createClient>

const deadlineQuery = (deadlineMs: number | undefined, before: string): string =>
  deadlineMs === undefined ? '' : `${before}deadlineMs=${deadlineMs}`

async function failureOf(response: Response): Promise<RequestFailed> {
  const text = await response.text()
  const after = response.headers.get('Retry-After')
  const retryAfter = after === null ? undefined : Number(after)
  try {
    const { error } = JSON.parse(text) as { error: { code: string; message: string; hint: string } }
    return new RequestFailed(response.status, error.code, error.message, error.hint, retryAfter)
  } catch {
    return new RequestFailed(response.status, 'INTERNAL', text.slice(0, 200) || response.statusText, '', retryAfter)
  }
}

async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerEvent> {
  const decoder = new TextDecoder()
  let text = ''
  for await (const chunk of body as unknown as AsyncIterable<Uint8Array>) {
    text += decoder.decode(chunk, { stream: true })
    let end = text.indexOf('\n\n')
    while (end >= 0) {
      const event = eventOf(text.slice(0, end))
      text = text.slice(end + 2)
      if (event) yield event
      end = text.indexOf('\n\n')
    }
  }
}

function eventOf(text: string): ServerEvent | undefined {
  const fields = new Map(
    text
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith(':'))
      .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trimStart()] as const),
  )
  const data = fields.get('data')
  if (data === undefined) return undefined
  const id = fields.get('id')
  return {
    id: id === undefined ? undefined : Number(id),
    kind: fields.get('event') ?? 'message',
    data: JSON.parse(data),
  }
}

async function openFrames(address: URL, token: string | undefined): Promise<FrameStream> {
  // Node 20 has no WebSocket of its own
  const Socket = globalThis.WebSocket ?? ((await import('ws')).WebSocket as unknown as typeof WebSocket)
  const socket = new Socket(address, token ? ['blockscale', `token.${token}`] : [])
  const waiting: StreamAnswer[] = []
  let wake: (() => void) | undefined
  let open = true
  socket.onmessage = ({ data }) => {
    waiting.push(JSON.parse(String(data)) as StreamAnswer)
    wake?.()
  }
  socket.onclose = () => {
    open = false
    wake?.()
  }
  const stream: FrameStream = {
    send: (picture) => socket.send(picture),
    async *answers() {
      while (open || waiting.length > 0) {
        const next = waiting.shift()
        if (next) yield next
        else {
          await new Promise<void>((resolve) => {
            wake = resolve
          })
        }
      }
    },
    close: () => socket.close(),
  }
  return new Promise((resolve, reject) => {
    socket.onopen = () => resolve(stream)
    socket.onerror = () =>
      reject(
        new RequestFailed(
          0,
          'INTERNAL',
          `the stream ${address.pathname} cannot be opened`,
          'check the address, the models and the token',
          undefined,
        ),
      )
  })
}

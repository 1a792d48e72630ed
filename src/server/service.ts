import type { IncomingMessage } from 'node:http'
import type { Logger } from 'pino'
import type { BlockscaleError } from '../base/index.ts'
import type { ModelSummary, Runtime } from '../runtime/index.ts'
import type { EventFeed } from './event-feed.ts'
import type { Gate } from './gate.ts'
import type { Limits } from './limits.ts'

/** What every route works with. */
export interface Service {
  readonly runtime: Runtime
  /** The models of the zoo; read anew after each event and once in a while, not for each request. */
  models(): readonly ModelSummary[]
  readonly limits: Limits
  readonly gate: Gate
  readonly feed: EventFeed
  readonly logger: Logger
  /** Told of every picture that was decoded, and whom it is for. */
  readonly onPicture?: ((models: readonly string[], bytes: Uint8Array) => void) | undefined
  /** why a request may not be served, or undefined; `key` is a token that came elsewhere than in its headers */
  refusal(request: IncomingMessage, key?: string): BlockscaleError | undefined
  /** aborted once the service has begun to stop: readiness says no, streams end */
  readonly stopping: AbortSignal
}

import type { ErrorRequestHandler, Response } from 'express'
import { MulterError } from 'multer'
import { ZodError } from 'zod'
import { asBlockscaleError, BlockscaleError, errorCatalogue } from '../base/index.ts'

/** The three ways in which a failure is written, by the contract of the route. */
export type FailureShape = 'native' | 'oip' | 'deepstack'

export const failureShapeOf = (path: string): FailureShape =>
  path === '/v2' || path.startsWith('/v2/')
    ? 'oip'
    : path.startsWith('/v1/vision/') || path.startsWith('/v1/server/')
      ? 'deepstack'
      : 'native'

/** What went wrong, in words of ours, whoever threw it: our rooms, zod, multer or Express. */
export function failureOf(thrown: unknown): BlockscaleError {
  if (thrown instanceof BlockscaleError) return thrown
  if (thrown instanceof ZodError) return new BlockscaleError('USAGE', wordsOf(thrown))
  // multer's errors carry no status of their own
  if (thrown instanceof MulterError) {
    const large = thrown.code === 'LIMIT_FILE_SIZE'
    return new BlockscaleError(large ? 'BODY_TOO_LARGE' : 'USAGE', `the form cannot be read: ${thrown.message}`)
  }
  // Express itself: a path that cannot be decoded
  if (isHttpError(thrown) && thrown.status < 500) {
    return new BlockscaleError('USAGE', `the request cannot be read: ${thrown.message}`)
  }
  // busboy reports a broken form as a plain Error
  if (thrown instanceof Error && /multipart|form|boundary|malformed part/i.test(thrown.message)) {
    return new BlockscaleError('USAGE', `the form cannot be read: ${thrown.message}`)
  }
  return asBlockscaleError(thrown)
}

export const statusOf = (failure: BlockscaleError): number => errorCatalogue[failure.code].http

export interface FailureJson {
  readonly error: { readonly code: string; readonly message: string; readonly hint: string }
}

/** Failures of our own making say nothing of the inside: the message of an unexpected error stays in the log. */
export function failureJson(failure: BlockscaleError): FailureJson {
  const message = failure.code === 'INTERNAL' ? 'an unexpected error; the log has the reason' : failure.message
  return { error: { code: failure.code, message, hint: failure.hint } }
}

/** A failure in the words of a contract. */
export function failureBody(failure: BlockscaleError, shape: FailureShape): object {
  const json = failureJson(failure)
  if (shape === 'native') return json
  const { message, hint } = json.error
  if (shape === 'oip') return { error: `${message}; ${hint}` }
  // the words that clients of this contract look for
  const words = failure.code === 'PICTURE_UNREADABLE' ? 'No valid image file found' : message
  return { success: false, error: words, code: statusOf(failure), duration: 0 }
}

/** Writes a failure in the shape of the route, with Retry-After where trying again helps. */
export function sendFailure(response: Response, failure: BlockscaleError, shape: FailureShape, retrySeconds = 1): void {
  const status = statusOf(failure)
  if ((status === 503 || status === 429) && !response.get('Retry-After'))
    response.set('Retry-After', String(retrySeconds))
  if (status === 401) response.set('WWW-Authenticate', 'Bearer realm="blockscale"')
  // the rest of a body that is too large is not worth receiving
  if (status === 413) response.set('Connection', 'close')
  response.status(status).json(failureBody(failure, shape))
}

/** The last handler of the application: every failure ends here. */
export const handleFailure: ErrorRequestHandler = (thrown, request, response, _next) => {
  const failure = failureOf(thrown)
  if (statusOf(failure) >= 500 && failure.code !== 'OVERLOADED') {
    request.log?.error({ err: thrown, code: failure.code }, failure.message)
  }
  if (response.headersSent) {
    // an answer that has begun cannot be mended; ending the connection tells the client that it is not whole
    response.destroy()
    return
  }
  sendFailure(response, failure, failureShapeOf(request.path))
}

/** What is wrong with a value; of one that is not there not the words of those who expected another type. */
export const issueText = ({ message }: { readonly message: string }): string =>
  message.replace(/^Invalid input: expected (\w+), received undefined$/, 'is missing; it must be of type $1')

const wordsOf = (error: ZodError): string =>
  error.issues
    .slice(0, 5)
    .map((issue) => `${issue.path.length ? `${issue.path.join('.')}: ` : ''}${issueText(issue)}`)
    .join('; ')

const isHttpError = (thrown: unknown): thrown is Error & { status: number } =>
  thrown instanceof Error && typeof (thrown as { status?: unknown }).status === 'number'

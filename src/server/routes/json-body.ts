import express, { type RequestHandler } from 'express'
import { BlockscaleError } from '../../base/index.ts'
import type { Service } from '../service.ts'

/**
 * Reads a body as JSON whatever its content type says: curl and small clients often send none or a wrong one.
 * Pages of other sites, which could abuse that, are refused by their Origin.
 */
export function jsonBody(service: Service): RequestHandler {
  const parse = express.json({ type: () => true, limit: service.limits.jsonBytes, strict: true })
  return (request, response, next) =>
    parse(request, response, (thrown?: unknown) => {
      if (thrown instanceof SyntaxError) next(new BlockscaleError('USAGE', `the body is not JSON: ${thrown.message}`))
      else if ((thrown as { type?: string } | undefined)?.type === 'entity.too.large') {
        next(new BlockscaleError('BODY_TOO_LARGE', `the body has more than ${service.limits.jsonBytes} bytes`))
      } else next(thrown)
    })
}

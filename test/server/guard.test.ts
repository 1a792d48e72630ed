import type { IncomingMessage } from 'node:http'
import { describe, expect, it } from 'vitest'
import { checkExposure, refusal, sameToken } from '../../src/server/guard.ts'

const token = 'a-long-enough-token-of-ours'
const from = (headers: Record<string, string>): IncomingMessage => ({ headers }) as unknown as IncomingMessage
const code = (headers: Record<string, string>, options: { token?: string; allowedHosts?: string[] } = {}) =>
  refusal(from({ host: '127.0.0.1:8080', ...headers }), options)?.code

describe('who is let in', () => {
  it('without a token: this machine, under its own names', () => {
    for (const host of ['127.0.0.1:8080', 'localhost', 'localhost:1', '[::1]:8080', '127.1.2.3', 'cam.localhost:80']) {
      expect(code({ host })).toBeUndefined()
    }
    for (const host of ['evil.example', '127.0.0.1.evil.example:8080', 'localhost.evil.example', '10.0.0.7:8080', '']) {
      expect(code({ host })).toBe('FORBIDDEN')
    }
    expect(code({ host: 'nvr.lan:8080' }, { allowedHosts: ['nvr.lan'] })).toBeUndefined()
  })

  it('without a token: no page of another site', () => {
    expect(code({ origin: 'http://127.0.0.1:8080' })).toBeUndefined()
    for (const origin of ['http://evil.example', 'null', 'http://127.0.0.1:3000', 'http://localhost:8080']) {
      expect(code({ origin })).toBe('FORBIDDEN')
    }
  })

  it('with a token: who has it, from anywhere', () => {
    expect(code({ host: 'box.lan', authorization: `Bearer ${token}` }, { token })).toBeUndefined()
    expect(code({ host: 'box.lan', 'sec-websocket-protocol': `blockscale, token.${token}` }, { token })).toBeUndefined()
    for (const authorization of ['', `Bearer ${token}x`, `Basic ${token}`, 'Bearer', `Bearer ${token.slice(1)}`]) {
      expect(code({ authorization }, { token })).toBe('UNAUTHORISED')
    }
    expect(refusal(from({ host: 'box.lan' }), { token }, token)).toBeUndefined()
    expect(refusal(from({ host: 'box.lan' }), { token }, '')?.code).toBe('UNAUTHORISED')
  })

  it('another address needs a token, and a token must be long', () => {
    for (const host of ['127.0.0.1', 'localhost', '::1']) expect(() => checkExposure(host, undefined)).not.toThrow()
    for (const host of ['0.0.0.0', '::', '192.168.1.5', '']) {
      expect(() => checkExposure(host, undefined)).toThrow(expect.objectContaining({ code: 'USAGE' }))
      expect(() => checkExposure(host, token)).not.toThrow()
    }
    expect(() => checkExposure('127.0.0.1', 'short')).toThrow(expect.objectContaining({ code: 'USAGE' }))
  })

  it('compares tokens of any length', () => {
    expect(sameToken(token, token)).toBe(true)
    expect(sameToken(token, '')).toBe(false)
    expect(sameToken(token, token.repeat(100))).toBe(false)
  })
})

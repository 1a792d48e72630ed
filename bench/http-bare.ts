/** What Node's HTTP alone costs: a server that does nothing but receive a body, have it answered, and send the answer. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Bare {
  readonly url: string
  close(): void
}

/** @param work makes the parts of an answer from a body, or from its tensors alone where it has words before them */
export async function serveBare(work: (body: Uint8Array) => Promise<readonly Uint8Array[]>): Promise<Bare> {
  const server = createServer({ noDelay: true }, async (request, response) => {
    const words = Number(request.headers['inference-header-content-length'] ?? 0)
    const body = new Uint8Array(Number(request.headers['content-length']) - words)
    let at = -words
    request.on('data', (chunk: Buffer) => {
      body.set(chunk.subarray(Math.max(0, -at)), Math.max(0, at))
      at += chunk.length
    })
    await new Promise((resolve) => request.once('end', resolve))
    const parts = await work(body)
    response.writeHead(200, { 'content-length': parts.reduce((sum, part) => sum + part.byteLength, 0) })
    response.cork()
    for (const part of parts) response.write(part)
    response.end()
    response.uncork()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close() {
      server.close()
      server.closeAllConnections()
    },
  }
}

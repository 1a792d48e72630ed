import { MessageChannel } from 'node:worker_threads'
import { transferable } from './messages.ts'
import type { Tensors } from './session.ts'

const { port1: nowhere, port2: end } = new MessageChannel()
end.close()

/**
 * Gives the memory of tensors back at once, of those that own their whole buffer; they are empty afterwards.
 *
 * V8 does it when it collects garbage, which a thread that runs networks and makes hardly any garbage itself seldom has a reason to: megabytes
 * of pictures wait for it. Node 20 has no call for it, but what is moved to a port that nobody listens to is gone.
 */
export function discard(tensors: Tensors): void {
  const buffers = transferable(tensors)
  if (buffers.length > 0) nowhere.postMessage(null, buffers)
}

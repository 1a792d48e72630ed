import type { Runtime, RuntimeEvent } from '../runtime/index.ts'

/** An event with its number, by which a client that was away asks for what it missed. */
export interface NumberedEvent {
  readonly id: number
  readonly event: RuntimeEvent
}

/** One subscription to the runtime, shared by all who listen, with the last events kept. */
export interface EventFeed {
  /** Events after `id` that are still kept, oldest first. */
  since(id: number): readonly NumberedEvent[]
  listen(listener: (event: NumberedEvent) => void): () => void
  close(): void
}

const KEPT = 256

export function openEventFeed(runtime: Pick<Runtime, 'events'>): EventFeed {
  const kept: NumberedEvent[] = []
  const listeners = new Set<(event: NumberedEvent) => void>()
  let next = 1
  const end = runtime.events((event) => {
    const numbered = { id: next++, event }
    kept.push(numbered)
    if (kept.length > KEPT) kept.shift()
    for (const listener of listeners) listener(numbered)
  })
  return {
    since: (id) => kept.filter((each) => each.id > id),
    listen(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close() {
      end()
      listeners.clear()
    },
  }
}

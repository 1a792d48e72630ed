// Calls to the service this page came from. The token, where one is needed, lives in this tab only.

const TOKEN = 'blockscale-token'

export const token = () => sessionStorage.getItem(TOKEN) ?? ''
export const setToken = (value) => sessionStorage.setItem(TOKEN, value)

const headers = () => (token() ? { Authorization: `Bearer ${token()}` } : {})

/** The service said no; `hint` says what helps. */
export class Refused extends Error {
  constructor(status, { code, message, hint }) {
    super(message)
    this.status = status
    this.code = code
    this.hint = hint
  }
}

export async function call(method, path, body) {
  const isBytes = body instanceof Blob
  const response = await fetch(path, {
    method,
    headers: headers(),
    body: body === undefined || isBytes ? body : JSON.stringify(body),
  }).catch(() => {
    throw new Refused(0, { code: 'AWAY', message: 'the service does not answer', hint: 'Look whether it runs.' })
  })
  const answer = await response.json().catch(() => ({}))
  if (!response.ok) {
    throw new Refused(response.status, answer.error ?? { code: 'INTERNAL', message: response.statusText, hint: '' })
  }
  return answer
}

/**
 * Listens to /v1/events for as long as the page is there; comes back after a break and asks for what it missed.
 * EventSource cannot send a token, so the stream is read by hand.
 */
export async function listen(onEvent, onState) {
  // what happened before the page was opened is told too, as far as it is kept
  let last = '0'
  for (;;) {
    try {
      const response = await fetch('/v1/events', {
        headers: { ...headers(), 'Last-Event-ID': last },
      })
      if (response.status === 401) {
        onState('locked')
        await waitForToken()
        continue
      }
      if (!response.ok) throw new Error(response.statusText)
      onState('live')
      for await (const event of eventsOf(response.body)) {
        if (event.id !== undefined) last = event.id
        onEvent(event)
      }
    } catch {
      // the service is away; it may come back
    }
    onState('away')
    await new Promise((resolve) => setTimeout(resolve, 2000))
  }
}

let tokenGiven = () => {}
const waitForToken = () =>
  new Promise((resolve) => {
    tokenGiven = resolve
  })

export function giveToken(value) {
  setToken(value)
  tokenGiven()
}

async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader()
  let text = ''
  for (;;) {
    const { value, done } = await reader.read()
    if (done) return
    text += value
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const fields = new Map()
      for (const line of text.slice(0, end).split('\n')) {
        const colon = line.indexOf(':')
        if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 1).trimStart())
      }
      text = text.slice(end + 2)
      if (fields.has('data')) {
        yield { id: fields.get('id'), kind: fields.get('event'), data: JSON.parse(fields.get('data')) }
      }
    }
  }
}

/** A stream of frames to some models: `send(blob)` newest wins, `onAnswer` for each answer. */
export function openStream(models, onAnswer, onEnd) {
  const address = new URL(`/v1/stream?models=${models.map(encodeURIComponent).join(',')}`, location.href)
  address.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:'
  const socket = new WebSocket(address, token() ? ['blockscale', `token.${token()}`] : [])
  socket.onmessage = ({ data }) => onAnswer(JSON.parse(data))
  socket.onclose = onEnd
  return {
    ready: new Promise((resolve) => {
      socket.onopen = resolve
    }),
    send: (blob) => socket.readyState === WebSocket.OPEN && socket.send(blob),
    close: () => socket.close(),
  }
}

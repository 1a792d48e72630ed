import { render } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import { call, giveToken, listen } from './api.js'
import { Budget } from './budget.js'
import { Happenings } from './happenings.js'
import { html } from './html.js'
import { ModelCard } from './model-card.js'
import { Legend } from './tower.js'
import { TryIt } from './try-it.js'

const POLL_MS = 2000
const SHOWN_EVENTS = 60

/** Everything the page shows comes from the service; it is asked again after each event and now and then. */
function useService() {
  const [state, setState] = useState({ connection: 'away', plan: undefined, models: [], workloads: [], budget: {} })
  const [events, setEvents] = useState([])
  const asking = useRef(false)
  const refresh = async () => {
    if (asking.current) return
    asking.current = true
    try {
      const [plan, models, workloads, budget] = await Promise.all([
        call('GET', '/v1/plan'),
        call('GET', '/v1/models'),
        call('GET', '/v1/workloads'),
        call('GET', '/v1/budget'),
      ])
      setState((before) => ({ ...before, plan, models: models.models, workloads: workloads.workloads, budget }))
    } catch {
      // the connection's own state says that the service is away
    } finally {
      asking.current = false
    }
  }
  useEffect(() => {
    let key = 0
    void listen(
      (event) => {
        if (event.kind !== 'live') {
          setEvents((before) => [{ ...event, key: key++ }, ...before].slice(0, SHOWN_EVENTS))
        }
        void refresh()
      },
      (connection) => setState((before) => ({ ...before, connection })),
    )
    const poll = setInterval(() => !document.hidden && void refresh(), POLL_MS)
    return () => clearInterval(poll)
  }, [])
  return { ...state, events, refresh }
}

function App() {
  const { connection, plan, models, workloads, budget, events, refresh } = useService()
  const [problem, setProblem] = useState()
  const change = async (method, path, body) => {
    try {
      await call(method, path, body)
      setProblem(undefined)
    } catch (error) {
      setProblem(error)
    }
    await refresh()
  }
  if (connection === 'locked') return html`<${Unlock} />`
  if (!plan) return html`<main class="waiting"><h1>blockscale</h1><p>Connecting…</p></main>`

  const summaries = new Map(models.map((each) => [each.model, each]))
  const running = new Set(plan.models.map((each) => each.model))
  const used = new Set(plan.models.flatMap((each) => each.blocks.map((block) => block.kind)))
  const setBudget = (part) => {
    const { memoryBytes, cores } = { ...budget, ...part }
    return change('PUT', '/v1/budget', present({ memoryBytes, cores }))
  }
  const setWorkload = ({ id, ...wish }) => change('PUT', `/v1/workloads/${encodeURIComponent(id)}`, present(wish))
  const repository = (model, verb) => change('POST', `/v2/repository/models/${encodeURIComponent(model)}/${verb}`)

  return html`<${Head} connection=${connection} plan=${plan} />
    <main>
      ${problem && html`<p role="alert" class="problem panel"><b>${problem.message}.</b> ${problem.hint} <button type="button" class="small" onClick=${() => setProblem(undefined)}>close</button></p>`}
      ${plan.unserved.map((each) => html`<p key=${each.id} class="problem panel"><b>${each.id} is not served:</b> ${each.why}</p>`)}
      <${Budget} plan=${plan} budget=${budget} workloads=${workloads} onBudget=${setBudget} />
      <section aria-labelledby="models-title">
        <div class="title">
          <h2 id="models-title">Models</h2>
          <${Legend} used=${used} />
        </div>
        ${plan.models.length === 0 && html`<p class="quiet">No model runs. Start one below, or build one with <code>blockscale build</code>.</p>`}
        <div class="cards">
          ${plan.models.map(
            (model) => html`<${ModelCard}
              key=${model.model}
              model=${model}
              summary=${summaries.get(model.model)}
              workloads=${workloads.filter((each) => each.model === model.model)}
              budget=${budget}
              onWorkload=${setWorkload}
              onRemove=${() => repository(model.model, 'unload')}
            />`,
          )}
        </div>
        <${Idle} models=${models.filter((each) => !running.has(each.model))} onLoad=${(model) => repository(model, 'load')} />
      </section>
      <div class="two">
        <${TryIt} models=${plan.models} />
        <${Happenings} events=${events} summaries=${summaries} />
      </div>
    </main>`
}

/** JSON has no undefined, and the service takes an absent field as no limit. */
const present = (fields) => Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined))

const Head = ({ connection, plan }) => html`<header class="top">
  <h1>blockscale</h1>
  <p>
    <span class=${`state state-${connection}`}>${connection === 'live' ? 'live' : 'not connected'}</span>
    <span>plan <code>${plan.id || 'none'}</code>, ${plan.status}</span>
    ${plan.binding.length > 0 && html`<span>held back by ${plan.binding.join(', ')}</span>`}
  </p>
  <nav aria-label="More"><a href="/docs">HTTP interface</a></nav>
</header>`

const Idle = ({ models, onLoad }) =>
  models.length > 0 &&
  html`<p class="idle">
    <span>not running:</span>
    ${models.map(({ model }) => html`<button type="button" key=${model} onClick=${() => onLoad(model)}>start ${model}</button>`)}
  </p>`

function Unlock() {
  const give = (event) => {
    event.preventDefault()
    giveToken(new FormData(event.currentTarget).get('token'))
  }
  return html`<main class="waiting">
    <h1>blockscale</h1>
    <form onSubmit=${give}>
      <label for="token">This service needs its token</label>
      <input id="token" name="token" type="password" autocomplete="current-password" required />
      <button>open</button>
    </form>
  </main>`
}

render(html`<${App} />`, document.getElementById('app'))

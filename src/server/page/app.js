import { render } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import { call, giveToken, listen } from './api.js'
import { LimitSlider, rounded } from './controls.js'
import * as format from './format.js'
import { Happenings } from './happenings.js'
import { html } from './html.js'
import { Meter } from './meter.js'
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
  const range = useMemoryRange((plan?.models ?? []).map((each) => each.model).join(), JSON.stringify(workloads))
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
    const { memoryBytes, cores, ...asked } = { ...budget, ...part }
    delete asked.usedBytes
    return change('PUT', '/v1/budget', { ...(memoryBytes ? { memoryBytes } : {}), ...(cores ? { cores } : {}) })
  }
  const workloadOf = (model) => workloads.find((each) => each.model === model)
  const setWorkload = ({ id, ...wish }) =>
    change(
      'PUT',
      `/v1/workloads/${encodeURIComponent(id)}`,
      Object.fromEntries(Object.entries(wish).filter(([, value]) => value !== undefined)),
    )

  return html`<${Head} connection=${connection} plan=${plan} />
    <main>
      ${problem && html`<p role="alert" class="problem"><b>${problem.message}.</b> ${problem.hint} <button type="button" onClick=${() => setProblem(undefined)}>close</button></p>`}
      <section class="budget" aria-labelledby="budget-title">
        <h2 id="budget-title">One budget for all</h2>
        <${Meter} label="memory" planned=${plan.memory.plannedBytes} limit=${budget.memoryBytes} text=${format.bytes} />
        <${Meter} label="cores" planned=${plan.totals?.cores ?? 0} limit=${budget.cores} text=${(value) => value.toFixed(2)} />
        <${LimitSlider}
          id="budget-memory"
          label="memory budget"
          value=${budget.memoryBytes}
          low=${Math.min(range.low, budget.memoryBytes ?? range.low)}
          high=${Math.max(range.high, 1.1 * (budget.memoryBytes ?? 0))}
          text=${format.bytes}
          step=${(value) => Math.round(value / 1e4) * 1e4}
          onSet=${(memoryBytes) => setBudget({ memoryBytes })}
        />
        <${LimitSlider}
          id="budget-cores"
          label="cores"
          value=${budget.cores}
          low=${0.05}
          high=${8}
          text=${(value) => value.toFixed(2)}
          step=${rounded}
          onSet=${(cores) => setBudget({ cores })}
        />
      </section>
      <section aria-labelledby="models-title">
        <h2 id="models-title">Models</h2>
        <${Legend} used=${used} />
        <div class="cards">
          ${plan.models.map(
            (model) => html`<${ModelCard}
              key=${model.model}
              model=${model}
              summary=${summaries.get(model.model)}
              workload=${workloadOf(model.model)}
              budget=${budget}
              onWorkload=${setWorkload}
              onRemove=${() => change('POST', `/v2/repository/models/${encodeURIComponent(model.model)}/unload`)}
            />`,
          )}
        </div>
        <${Idle} models=${models.filter((each) => !running.has(each.model))} onLoad=${(model) => change('POST', `/v2/repository/models/${encodeURIComponent(model)}/load`)} />
      </section>
      <div class="two">
        <${TryIt} models=${plan.models} />
        <${Happenings} events=${events} />
      </div>
    </main>`
}

/**
 * The budgets between which plans differ, asked as what-ifs: a little less than the least that these models need, up to
 * more than they would take without a limit.
 */
function useMemoryRange(names, wishes) {
  const [range, setRange] = useState({ low: 1e5, high: 1e9 })
  useEffect(() => {
    if (names === '') return
    const total = async (objective) => (await call('POST', '/v1/plan', { budget: {}, objective })).totals?.memoryBytes
    Promise.all([total('memory'), total('quality')])
      .then(([least, most]) => least && most && setRange({ low: 0.85 * least, high: Math.max(1.5 * most, 2 * least) }))
      .catch(() => {})
  }, [names, wishes])
  return range
}

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
    ${models.map(({ model, reason }) => html`<button type="button" key=${model} title=${reason ?? ''} onClick=${() => onLoad(model)}>start ${model}</button>`)}
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

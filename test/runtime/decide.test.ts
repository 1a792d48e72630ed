import { describe, expect, it } from 'vitest'
import { type ControlState, type Decision, decide, initialState, type Observation } from '../../src/runtime/decide.ts'
import type { Readings } from '../../src/runtime/device.ts'

const calm: Observation = { usedBytes: 40e6, engines: 2, drift: new Map() }
const plenty: Readings = { memoryAvailableBytes: 4e9, memoryTotalBytes: 8e9, cores: 2 }

/** Looks once a second, and tells what was decided at which second. */
function replay(
  seconds: number,
  readings: (second: number) => Readings,
  observation: (second: number) => Observation = () => calm,
): { second: number; decision: Decision }[] {
  let state: ControlState = initialState
  const found: { second: number; decision: Decision }[] = []
  for (let second = 0; second < seconds; second++) {
    const next = decide(state, readings(second), observation(second), second * 1000)
    state = next.state
    if (next.decision.kind === 'replan') found.push({ second, decision: next.decision })
  }
  return found
}

describe('the controller', () => {
  it('does nothing while there is plenty', () => {
    expect(replay(60, () => plenty)).toEqual([])
  })

  it('acts at once on a lack of memory, and says so', () => {
    const lack = { ...plenty, memoryTotalBytes: 1e8, memoryAvailableBytes: 5e6 }
    const [first] = replay(1, () => lack)
    // 40 MB are loaded and 5 MB are free, of which 32 MB are left to others.
    expect(first!.decision).toMatchObject({ kind: 'replan', conditions: { memoryBytes: 13e6 } })
    expect(first!.decision).toMatchObject({ why: 'the device leaves 13.00 MB for models, which take 40.00 MB' })
  })

  it('gives memory back under pressure', () => {
    const [first] = replay(1, () => ({ ...plenty, memoryPressure: 0.4 }))
    expect(first!.decision).toMatchObject({ conditions: { memoryBytes: 32e6 } })
  })

  it('takes memory again only after it has been there for a while', () => {
    const used = (second: number) => ({ ...calm, usedBytes: second === 0 ? 40e6 : 12e6 })
    const readings = (second: number) =>
      second < 5 ? { ...plenty, memoryTotalBytes: 1e8, memoryAvailableBytes: 5e6 + (second > 0 ? 28e6 : 0) } : plenty
    const found = replay(30, readings, used)
    expect(found.map(({ second }) => second)).toEqual([0, 15])
    expect(found[1]!.decision).toMatchObject({ conditions: { memoryBytes: undefined } })
  })

  it('does not flap with cores that come and go', () => {
    expect(replay(60, (second) => ({ ...plenty, cores: second % 3 === 0 ? 1 : 2 }))).toEqual([])
  })

  it('follows a CPU quota that stays, down in seconds and up more slowly', () => {
    const found = replay(60, (second) => ({ ...plenty, cores: second >= 10 && second < 30 ? 0.5 : 2 }))
    expect(found.map(({ second }) => second)).toEqual([13, 40])
    expect(found[0]!.decision).toMatchObject({ conditions: { cores: 0.5 } })
  })

  it('spares cores when it is hot or the battery is low', () => {
    expect(replay(10, () => ({ ...plenty, temperatureC: 95 }))[0]!.decision).toMatchObject({ conditions: { cores: 1 } })
    expect(replay(10, () => ({ ...plenty, battery: 0.1 }))[0]!.decision).toMatchObject({ conditions: { cores: 1 } })
  })

  it('plans for a model that runs slower than it was profiled, and not for noise', () => {
    const drift = (factor: number) => () => ({ ...calm, drift: new Map([['m', factor]]) })
    expect(replay(30, () => plenty, drift(1.25))).toEqual([])
    const found = replay(30, () => plenty, drift(2))
    expect(found.map(({ second }) => second)).toEqual([3])
    expect(found[0]!.decision).toMatchObject({
      conditions: { slowdown: new Map([['m', 2]]) },
      why: 'm takes 2.00 times as long as predicted',
    })
  })
})

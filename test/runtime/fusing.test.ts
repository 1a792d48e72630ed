import { expect, it } from 'vitest'
import { type FusingCase, isWorthFusing } from '../../src/runtime/fusing.ts'

const young: FusingCase = { answered: 0, chainMs: undefined, fusedMs: 10, loadMs: 40, ageMs: 1_000 }

it('a chain is fused once its pictures have lost what fusing costs', () => {
  const after = (answered: number, chainMs?: number) => isWorthFusing({ ...young, answered, chainMs })
  expect(after(0)).toBe(false)
  expect([after(19, 12), after(20, 12)]).toEqual([false, true])
  // Where it looks no slower than predicted it still loses a little.
  expect([after(79, 9), after(80, 9)]).toEqual([false, true])
})

it('a chain that breaks the limit on latency is fused at once, and one that stays is fused in any case', () => {
  expect(isWorthFusing({ ...young, chainMs: 12, maxLatencyMs: 11 })).toBe(true)
  expect(isWorthFusing({ ...young, chainMs: 12, maxLatencyMs: 13 })).toBe(false)
  expect(isWorthFusing({ ...young, ageMs: 20_000 })).toBe(true)
})

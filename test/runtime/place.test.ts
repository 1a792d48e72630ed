import { expect, it } from 'vitest'
import type { PlannedModel } from '../../src/optimizer/index.ts'
import { place } from '../../src/runtime/place.ts'

const planned = (model: string, latencyMs: number, core?: number): PlannedModel => ({
  model,
  choices: [],
  predicted: { quality: 1, latencyMs, memoryBytes: 1 },
  ...(core === undefined ? {} : { core }),
})
const cores = (placed: readonly PlannedModel[]) => Object.fromEntries(placed.map(({ model, core }) => [model, core]))

it('numbers the solver’s cores so that what is loaded stays where it is', () => {
  const rates = new Map([
    ['a', 10],
    ['b', 10],
    ['c', 10],
  ])
  const current = new Map([
    ['a', { core: 1 }],
    ['b', { core: 0 }],
  ])
  const placed = place([planned('a', 5, 0), planned('b', 5, 1), planned('c', 5, 0)], { workers: 2, rates, current })
  expect(cores(placed)).toEqual({ a: 1, b: 0, c: 1 })
})

it('models without a rate stay where they are, and new ones go where least is done', () => {
  const current = new Map([['old', { core: 0 }]])
  const placed = place([planned('new', 50, 0), planned('old', 5, 0)], { workers: 2, rates: new Map(), current })
  expect(cores(placed)).toEqual({ old: 0, new: 1 })
})

it('a core that is gone is no place to stay', () => {
  const current = new Map([['a', { core: 3 }]])
  expect(cores(place([planned('a', 5)], { workers: 1, rates: new Map(), current }))).toEqual({ a: 0 })
})

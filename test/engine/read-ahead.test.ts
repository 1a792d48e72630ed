import fc from 'fast-check'
import { expect, it } from 'vitest'
import { readAhead } from '../../src/engine/index.ts'

const step = fc.record({ own: fc.nat(50), passingBytes: fc.nat(50) }).map(({ own, passingBytes }) => ({
  memoryBytes: own + passingBytes,
  passingBytes,
}))
const chains = fc.array(step, { minLength: 1, maxLength: 6 })

it('what is read ahead leaves the window room for what runs, until it is used', () => {
  fc.assert(
    fc.property(chains, fc.integer({ min: 100, max: 250 }), (steps, windowBytes) => {
      const ahead = readAhead(steps, windowBytes)
      expect(ahead).toHaveLength(steps.length + 1)
      const inMemory = steps.map(() => 0)
      // Two pictures, one after the other.
      for (const moment of [...ahead.keys(), ...ahead.keys()]) {
        if (moment < steps.length) inMemory[moment] = 0
        for (const { step: coming, bytes } of ahead[moment]!) inMemory[coming] = Math.max(inMemory[coming]!, bytes)
        const running = steps[moment]?.memoryBytes ?? 0
        expect(inMemory.reduce((sum, bytes) => sum + bytes, running)).toBeLessThanOrEqual(windowBytes)
      }
    }),
  )
})

it('everything is read ahead where the window has room for everything', () => {
  fc.assert(
    fc.property(chains, (steps) => {
      const ahead = readAhead(steps, 1e6)
      const bytes = (moment: number) => ahead[moment]!.reduce((sum, each) => sum + each.bytes, 0)
      const all = steps.reduce((sum, { passingBytes }) => sum + passingBytes, 0)
      for (const [i, { passingBytes }] of steps.entries()) expect(bytes(i)).toBe(all - passingBytes)
      expect(bytes(steps.length)).toBe(all)
    }),
  )
})

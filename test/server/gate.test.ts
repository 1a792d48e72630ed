import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { openGate } from '../../src/server/gate.ts'
import { defaultLimits } from '../../src/server/limits.ts'

const limits = {
  ...defaultLimits(1),
  inWorks: 5,
  inWorksPerModel: 3,
  burstPerModel: 3,
  uploadBytes: 100,
  pixelsInWorks: 100,
}

describe('the gate', () => {
  it('never lets in more than its limits, whatever comes and goes, and is empty when all have left', () => {
    const steps = fc.array(fc.record({ models: fc.uniqueArray(fc.constantFrom('a', 'b', 'c')), leave: fc.nat() }), {
      maxLength: 60,
    })
    fc.assert(
      fc.property(steps, (moves) => {
        const gate = openGate(limits)
        const inside: { models: readonly string[]; leave(): void }[] = []
        for (const { models, leave } of moves) {
          try {
            inside.push({ models, ...gate.enter(models) })
          } catch (thrown) {
            expect(thrown).toMatchObject({ code: 'OVERLOADED' })
            const [gone] = inside.splice(leave % Math.max(1, inside.length), 1)
            gone?.leave()
            gone?.leave()
          }
          const all = inside.flatMap((each) => each.models)
          expect(gate.inWorks).toBe(all.length)
          expect(gate.inWorks).toBeLessThanOrEqual(5)
          for (const model of ['a', 'b', 'c'])
            expect(all.filter((each) => each === model).length).toBeLessThanOrEqual(3)
        }
        for (const each of inside) each.leave()
        expect(gate.inWorks).toBe(0)
      }),
    )
  })

  it('lets a burst in, but no more than the steady number while pressure lasts', () => {
    let time = 0
    const gate = openGate({ ...limits, inWorks: 100, burstPerModel: 8, burstMs: 100 }, () => time)
    const burst = Array.from({ length: 8 }, () => gate.enter(['a']))
    expect(() => gate.enter(['a'])).toThrow(expect.objectContaining({ code: 'OVERLOADED' }))
    time = 150
    for (const each of burst.splice(0, 5)) each.leave()
    expect(() => gate.check(['a'])).toThrow()
    burst.pop()?.leave()
    const third = gate.enter(['a'])
    expect(() => gate.check(['a'])).toThrow()
    // once the works are almost empty, the next burst is welcome
    for (const each of [...burst, third]) each.leave()
    for (let i = 0; i < 8; i++) gate.enter(['a'])
    expect(gate.inWorks).toBe(8)
  })

  it('counts bytes and pixels, and lets a single large one through when nothing else is there', () => {
    const gate = openGate(limits)
    const large = gate.receive(500)
    expect(() => gate.receive(1)).toThrow(expect.objectContaining({ code: 'OVERLOADED' }))
    large.leave()
    gate.receive(60)
    expect(() => gate.receive(60)).toThrow()
    const picture = gate.decode(90)
    expect(() => gate.decode(20)).toThrow()
    picture.leave()
    gate.decode(20)
    expect(gate.receivingBytes).toBe(60)
    expect(gate.refused).toBe(3)
  })
})

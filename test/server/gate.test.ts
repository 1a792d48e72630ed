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

  describe('of a model', () => {
    let time = 0
    const open = () => {
      time = 0
      return openGate({ ...limits, inWorks: 100, inWorksPerModel: 2, burstPerModel: 8, overloadMs: 1000 }, () => time)
    }
    const overloaded = expect.objectContaining({ code: 'OVERLOADED' })
    const enterAll = (gate: ReturnType<typeof openGate>, count: number) =>
      Array.from({ length: count }, () => gate.enter(['a']))

    it('lets a burst in, and keeps clients who wait for their answers, however long they stay', () => {
      const gate = open()
      const inside = enterAll(gate, 8)
      for (let i = 0; i < 100; i++) {
        time += 30
        inside.shift()!.leave()
        inside.push(gate.enter(['a']))
      }
      expect(gate.refused).toBe(0)
    })

    it('lets in no more than the steady number once more came than a burst holds, and does so while that lasts', () => {
      const gate = open()
      const inside = enterAll(gate, 8)
      expect(() => gate.check(['a'])).toThrow(overloaded)
      for (const each of inside.splice(0, 6)) each.leave()
      // ten times what can be answered, for five seconds
      for (let i = 0; i < 500; i++) {
        time += 10
        if (i % 10 === 0) {
          inside.shift()!.leave()
          inside.push(gate.enter(['a']))
        }
        expect(() => gate.enter(['a'])).toThrow(overloaded)
      }
      expect(gate.inWorks).toBe(2)
    })

    it('welcomes bursts again when less is refused than at full load, and after a pause', () => {
      const gate = open()
      const inside = enterAll(gate, 8)
      expect(() => gate.check(['a'])).toThrow(overloaded)
      for (const each of inside) each.leave()
      for (let i = 0; i < 20; i++) {
        time += 60
        gate.enter(['a']).leave()
      }
      expect(enterAll(gate, 8)).toHaveLength(8)

      const other = open()
      const full = enterAll(other, 8)
      for (let i = 0; i < 50; i++) expect(() => other.check(['a'])).toThrow(overloaded)
      for (const each of full) each.leave()
      time = 2500
      expect(enterAll(other, 8)).toHaveLength(8)
    })
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

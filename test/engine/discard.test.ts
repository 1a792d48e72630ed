import { expect, it } from 'vitest'
import { discard } from '../../src/engine/discard.ts'
import { floats } from '../../src/tensor/index.ts'

it('gives the memory of tensors back at once, but of those that share theirs', () => {
  const large = () => floats([1 << 20], new Float32Array(1 << 20))
  const shared = new Float32Array(8)
  const before = process.memoryUsage().arrayBuffers
  const tensors = { a: large(), b: large(), part: floats([4], shared.subarray(0, 4)) }
  expect(process.memoryUsage().arrayBuffers - before).toBeGreaterThan(8e6)
  discard(tensors)
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1e6)
  expect(tensors.a.data).toHaveLength(0)
  expect(tensors.part.data).toHaveLength(4)
})

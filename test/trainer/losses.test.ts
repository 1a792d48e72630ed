import { expect, test } from 'vitest'
import { openSession } from '../../src/engine/index.ts'
import { node, writeModel } from '../../src/onnx/index.ts'
import { floats, type Tensor } from '../../src/tensor/index.ts'
import { Emitter } from '../../src/trainer/emitter.ts'
import { emitLoss, type Loss, lossInputs } from '../../src/trainer/losses.ts'
import { modelOf, some } from './finite-differences.ts'

const losses: readonly Loss[] = [
  { kind: 'mse', output: 'y' },
  { kind: 'mse', output: 'y', weight: 3, masked: true },
  { kind: 'charbonnier', output: 'y' },
  { kind: 'smooth-l1', output: 'y', masked: true },
  { kind: 'binary-cross-entropy', output: 'y', weight: 0.5 },
  { kind: 'cross-entropy', output: 'y' },
  { kind: 'cross-entropy', output: 'y', smoothing: 0.1, weight: 2 },
  { kind: 'divergence', output: 'y' },
  { kind: 'divergence', output: 'y', temperature: 3, weight: 2 },
]

for (const loss of losses) {
  test(`the gradient of ${JSON.stringify(loss)} agrees with finite differences`, async () => {
    const dims = [4, 5]
    const emit = new Emitter('loss')
    const { value, gradient } = emitLoss(emit, loss, dims)
    const feeds: Record<string, Tensor> = {
      x: floats(
        dims,
        some(...dims).data.map((v) => v * 3),
      ),
    }
    for (const input of lossInputs(loss, dims)) {
      if (input.type === 'int64')
        feeds[input.name] = { type: 'int64', dims: [4], data: BigInt64Array.of(0n, 4n, 2n, 1n) }
      else if (input.name.startsWith('mask')) {
        feeds[input.name] = floats(
          dims,
          some(...dims).data.map((v) => (v > 0 ? 1 : 0)),
        )
      } else feeds[input.name] = floats(dims, some(...dims).data.map(Math.abs))
    }
    const nodes = [node('Identity', ['x'], ['y']), ...emit.nodes]
    const model = modelOf(feeds, nodes, [value, gradient], Object.fromEntries(emit.initializers), 13)
    const session = await openSession(writeModel(model))
    const lossAt = async (x: Tensor) => (await session.run({ ...feeds, x }))[value]!.data[0] as number
    const analytic = (await session.run(feeds))[gradient]!.data as Float32Array
    const x = feeds.x!.data as Float32Array
    for (let i = 0; i < x.length; i++) {
      const moved = (by: number) =>
        floats(
          dims,
          x.map((v, j) => (i === j ? v + by : v)),
        )
      const numeric = ((await lossAt(moved(0.01))) - (await lossAt(moved(-0.01)))) / 0.02
      expect(analytic[i]).toBeCloseTo(numeric, 2)
    }
    await session.release()
  })
}

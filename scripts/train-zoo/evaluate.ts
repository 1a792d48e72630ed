import { seededRandom } from '../../src/base/index.ts'
import { openSession } from '../../src/engine/index.ts'
import { type Model, writeModel } from '../../src/onnx/index.ts'
import type { Tensor } from '../../src/tensor/index.ts'
import type { Samples } from '../../src/trainer/index.ts'

type Quality = (outputs: Readonly<Record<string, Tensor>>, feeds: Readonly<Record<string, Tensor>>) => number

/** Mean quality of a finished model over samples, through the same session that users run. */
export async function evaluate(model: Model, samples: Samples, quality: Quality, batch = 50): Promise<number> {
  const session = await openSession(writeModel(model))
  let sum = 0
  for (let from = 0; from < samples.count; from += batch) {
    const indices = Array.from({ length: Math.min(batch, samples.count - from) }, (_, i) => from + i)
    const feeds = await samples.batch(indices, seededRandom(from))
    const outputs = await session.run(Object.fromEntries(session.inputs.map((name) => [name, feeds[name]!])))
    sum += quality(outputs, feeds) * indices.length
  }
  await session.release()
  return sum / samples.count
}

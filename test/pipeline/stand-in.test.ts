import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { modelId } from '../../src/base/index.ts'
import { borders, compose, cut, type Model, writeModel } from '../../src/onnx/index.ts'
import { type Evaluation, evaluate, openEvaluationSet, prepareModel } from '../../src/pipeline/index.ts'
import { ends } from '../../src/pipeline/prepare.ts'
import { evaluateStandIns } from '../../src/pipeline/stand-in.ts'
import { taskFor } from '../../src/tasks/index.ts'
import { tinyClassifier, tinyPicture } from './tiny-model.ts'

const folder = await mkdtemp(join(tmpdir(), 'blockscale-stand-in-'))
afterAll(() => rm(folder, { recursive: true, force: true }))

/** The block with the weights of its layers shrunk, which changes what it gives. */
const weakened = ({ graph, ...rest }: Model, factor: number): Model => ({
  ...rest,
  graph: {
    ...graph,
    initializers: new Map(
      [...graph.initializers].map(([name, tensor]) => [
        name,
        tensor.type === 'float32'
          ? { ...tensor, data: (tensor.data as Float32Array).map((value) => value * factor) }
          : tensor,
      ]),
    ),
  },
})

test('a descendant that stands in alone is judged as the whole model with it in place', async () => {
  const file = join(folder, 'tiny.onnx')
  await writeFile(file, writeModel(tinyClassifier()))
  const prepared = await prepareModel({ id: modelId('tiny'), file, folder })
  const { card, normalised } = prepared
  // Cut everywhere: also inside of the residual units, so that a shortcut passes by a block.
  const blocks = cut(normalised, borders(normalised))
  expect(blocks.some(({ inputs }) => inputs.length > 1)).toBe(true)
  const task = taskFor(card)
  const items = Array.from({ length: 12 }, (_, i) => ({ prepared: task.prepare(tinyPicture(i), card) }))
  const set = await openEvaluationSet(prepared.bytes, items, card, false)
  const weighted = [...blocks.entries()].filter(([, { model }]) => model.graph.initializers.size > 0)
  expect(weighted.length).toBeGreaterThan(4)
  for (const [at, block] of weighted) {
    const standIns = [0.9, 0.5].map((factor) => ({ id: `${factor}`, model: weakened(block.model, factor) }))
    const alone = new Map<string, Evaluation>()
    await evaluateStandIns(
      { model: normalised.model, blocks },
      at,
      standIns.map(({ id, model }) => ({ id, model: writeModel(model) })),
      set,
      card,
      (id, evaluation) => alone.set(id, evaluation),
    )
    for (const { id, model } of standIns) {
      const models = blocks.map((each, i) => (i === at ? model : each.model))
      const whole = await evaluate(writeModel(compose(models, ends(normalised.model, 'tiny'))), set, card)
      expect(whole.divergence).toBeGreaterThan(1e-5)
      expect(alone.get(id)!.divergence / whole.divergence).toBeCloseTo(1, 4)
      expect(alone.get(id)!.quality).toEqual(whole.quality)
      expect(alone.get(id)!.pictures).toBe(12)
    }
  }
})

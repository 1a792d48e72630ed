import { inOwnProcess } from './own-process.ts'
import type { ResultRow } from './result.ts'
import type { StreamAsk, StreamFigures } from './runtime-stream-child.ts'

const round = (value: number, digits = 3) => Number(value.toFixed(digits))

/**
 * A model of which 40 % of the weights may be in memory beside what its largest block computes in: as it is planned and streamed, and as it
 * would be with each block loaded when it is its turn. Each in a process of its own. Between two pictures the files of streamed blocks are
 * taken out of the system's cache, as on a machine that has no memory for them, so that each picture reads them from disk.
 *
 * @param zoo folder of a built zoo that holds the model; what is not compiled yet is compiled into it
 */
export function stream(zoo: string, model: string): ResultRow {
  const ask = (way: StreamAsk['way']) =>
    inOwnProcess<StreamFigures>('./runtime-stream-child.ts', { zoo, model, way } satisfies StreamAsk)
  const [loaded, streamed, onDemand] = [ask('loaded'), ask('streamed'), ask('on demand')]
  return {
    part: 'streaming',
    model,
    weightMB: round(streamed.weightBytes / 1e6, 2),
    loadedNeedsMB: round(loaded.plannedBytes / 1e6, 2),
    limitMB: round(streamed.limitBytes / 1e6, 2),
    plannedMB: round(streamed.plannedBytes / 1e6, 2),
    streamedBlocks: streamed.streamedBlocks,
    blocks: streamed.blocks,
    readMBPerSecond: round(streamed.readBytesPerSecond / 1e6, 1),
    sampledPeakMB: round(streamed.sampledPeakBytes / 1e6, 2),
    loadedSampledPeakMB: round(loaded.sampledPeakBytes / 1e6, 2),
    loadedMs: round(loaded.medianMs),
    streamedMs: round(streamed.medianMs),
    predictedMs: round(streamed.predictedMs),
    onDemandMs: round(onDemand.medianMs),
    streamedToOnDemand: round(streamed.medianMs / onDemand.medianMs),
    streamedToPredicted: round(streamed.medianMs / streamed.predictedMs),
    sameAnswers: streamed.answer === loaded.answer && onDemand.answer === loaded.answer,
  }
}

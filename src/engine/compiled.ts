import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { appendFile } from 'node:fs/promises'
import { inCall } from './parking.ts'
import { openSession, openSessionNow, type Session, type SessionOptions, type Tensors } from './session.ts'

/** After the graph in a file, where ONNX Runtime looks at nothing. */
const MARK = Buffer.from('\nused as mapped')

const RUNS = 24
const WARM = 2
/** A copy of weights costs memory and time to load: it is only made where runs are quicker for it by more than noise. */
const PACKED_GAIN = 1.1

/**
 * Decides by measuring, and writes into a compiled file, whether its weights are used as they are mapped.
 *
 * Otherwise ONNX Runtime makes a copy of the weights of matrix products in the order in which its kernels read them. 8-bit kernels need
 * that. In float with one row, as after a global pooling, it gains nothing: the last block of MobileNetV2 then loads in 28 ms and not in 1,
 * and takes 5 MB more.
 */
export async function choosePacking(path: string, feeds: Tensors): Promise<void> {
  const sessions: Session[] = []
  try {
    for (const prepacking of [true, false]) {
      sessions.push(await openSession(path, { memoryMapped: true, optimization: 'disabled', prepacking }))
    }
    const [packed, mapped] = quickest(sessions, feeds)
    if (mapped! <= PACKED_GAIN * packed!) await appendFile(path, MARK)
  } finally {
    for (const session of sessions) await session.release()
  }
}

/** Milliseconds of a run of each session, in turns; the least, because the rest is what else the machine did. */
export function quickest(sessions: readonly Session[], feeds: Tensors): number[] {
  const times: number[][] = sessions.map(() => [])
  for (let run = 0; run < RUNS; run++) {
    for (const [i, session] of sessions.entries()) {
      const started = performance.now()
      session.runNow(feeds)
      if (run >= WARM) times[i]!.push(performance.now() - started)
    }
  }
  return times.map((each) => Math.min(...each))
}

type Keeping = Pick<SessionOptions, 'keepsMemory' | 'prepacking'>

/** Maps a compiled `.ort` file in the way in which it is to be used. @throws BlockscaleError MODEL_UNSUPPORTED */
export const openCompiled = (path: string, keeping: Keeping = {}): Promise<Session> =>
  inCall(async () => openCompiledNow(path, keeping))

/** The same at once, in the threads that may call `runNow`. What was compiled is optimised already: doing it again would only cost time. */
export const openCompiledNow = (path: string, keeping: Keeping = {}): Session =>
  openSessionNow(path, { memoryMapped: true, optimization: 'disabled', prepacking: !isMarked(path), ...keeping })

function isMarked(path: string): boolean {
  let file: number
  try {
    file = openSync(path, 'r')
  } catch {
    return false // ONNX Runtime says what is wrong with it
  }
  try {
    const end = Buffer.alloc(MARK.length)
    readSync(file, end, 0, end.length, Math.max(0, fstatSync(file).size - end.length))
    return end.equals(MARK)
  } finally {
    closeSync(file)
  }
}

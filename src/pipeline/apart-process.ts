import { readFile } from 'node:fs/promises'
import { Worker } from 'node:worker_threads'
import { asBlockscaleError, BlockscaleError, type ErrorCode } from '../base/index.ts'
import { openSession } from '../engine/index.ts'
import { feedsAt, inputShapes, readModel } from '../onnx/index.ts'
import { firstInput } from '../tasks/index.ts'
import type { FoundModel } from '../zoo/index.ts'
import { guessFrom, type PreparedModel, prepareModel } from './prepare.ts'

/** The card and everything about it that was guessed. */
export type Guess = ReturnType<typeof guessFrom>
export type ApartCall =
  | { readonly kind: 'prepare'; readonly found: FoundModel; readonly blocks?: number | undefined }
  | { readonly kind: 'look'; readonly found: FoundModel }
export type ApartSetup = ApartCall & { readonly memoryBytes: number }
export type ApartAnswer =
  | { readonly result: PreparedModel | Guess }
  | { readonly error: { readonly code: ErrorCode; readonly message: string; readonly hint: string } }

/** The process in which a file from outside is opened for the first time. It answers one call. */
process.once('message', async (setup: ApartSetup) => {
  watch(setup.memoryBytes)
  const answer = await handle(setup).then(
    (result): ApartAnswer => ({ result }),
    (thrown): ApartAnswer => {
      const { code, message, hint } = asBlockscaleError(known(thrown))
      return { error: { code, message, hint } }
    },
  )
  process.send!(answer)
})
process.once('disconnect', () => process.exit())

function handle(call: ApartCall): Promise<PreparedModel | Guess> {
  return call.kind === 'prepare' ? prepareModel(call.found, call.blocks) : look(call.found)
}

async function look(found: FoundModel): Promise<Guess> {
  const file = await readFile(found.file)
  const model = readModel(file)
  const session = await openSession(file) // refuses with ONNX Runtime's own reason what cannot run here
  const guess = found.card ? { card: found.card, guessed: [] } : guessFrom(found.id, model)
  const size = firstInput(guess.card).size
  // Whether a made-up input is to its liking does not matter: whether it crashes, hangs or eats the memory does.
  await session.run(feedsAt(inputShapes(model.graph, size), { batch: 1, size: undefined })).catch((error) => {
    if (!(error instanceof BlockscaleError)) throw error
  })
  await session.release()
  return guess
}

/** What goes wrong here is the fault of the file: nothing else was asked of this process. */
function known(thrown: unknown): unknown {
  if (thrown instanceof BlockscaleError && thrown.code === 'ENGINE_FAILED') {
    return new BlockscaleError('MODEL_UNSUPPORTED', `the model cannot be run: ${thrown.message}`)
  }
  const text = thrown instanceof Error ? thrown.message : String(thrown)
  const isTooLarge =
    thrown instanceof RangeError && /allocation failed|Invalid (typed )?array (buffer )?length/i.test(text)
  if (isTooLarge) {
    return new BlockscaleError('MODEL_UNSUPPORTED', 'the file promises tensors that are larger than any memory')
  }
  if ((thrown as NodeJS.ErrnoException).code === 'ERR_FS_FILE_TOO_LARGE') {
    return new BlockscaleError('MODEL_UNSUPPORTED', 'the file is larger than the 2 GiB that an ONNX file can have')
  }
  if (thrown instanceof RangeError && /call stack/i.test(text)) {
    return new BlockscaleError('MODEL_UNSUPPORTED', 'the file is nested too deeply')
  }
  return thrown
}

/**
 * Ends the process when it holds more memory than it may, or when nobody waits for it any more. A thread of its own looks,
 * because the main one is inside ONNX Runtime meanwhile.
 */
function watch(memoryBytes: number): void {
  const look = `
    const { workerData: { memoryBytes, parent } } = require('node:worker_threads')
    setInterval(() => {
      if (process.memoryUsage.rss() > memoryBytes) process.kill(process.pid, 'SIGUSR2')
      if (process.ppid !== parent) process.kill(process.pid, 'SIGKILL')
    }, 15)`
  new Worker(look, { eval: true, workerData: { memoryBytes, parent: process.ppid } }).unref()
}

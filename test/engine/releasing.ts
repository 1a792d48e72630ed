/** A process in which networks come and go, for memory.test.ts: prints what it holds that no file backs before and after, in bytes. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Engine } from '../../src/engine/index.ts'
import { writeModel } from '../../src/onnx/index.ts'
import { floats } from '../../src/tensor/index.ts'
import { burner } from './tiny.ts'

/** Rows of the square matrices: values between two nodes take 0.3 to 4 MB. */
const SIZES = [1024, 288, 800, 512, 928, 384, 640]
const ROUNDS = 6

const held = () => Number(/^RssAnon:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024
const folder = mkdtempSync(join(tmpdir(), 'releasing-'))
const paths = SIZES.map((size) => {
  const path = join(folder, `${size}.onnx`)
  writeFileSync(path, writeModel(burner('x', 'y', 4, size)))
  return path
})
const engine = new Engine()
/** Each comes before the one that it replaces goes, as in a swap. */
async function comeAndGo(rounds: number): Promise<void> {
  let before = await engine.hold('first', paths[0]!)
  for (let i = 1; i < rounds * SIZES.length; i++) {
    const size = SIZES[i % SIZES.length]!
    const hold = await engine.hold(String(i), paths[i % SIZES.length]!)
    const x = floats([size, size], new Float32Array(size * size))
    await engine.run({ chain: [hold.key], feeds: { x }, outputs: ['y'] })
    await before.release()
    before = hold
  }
  await before.release()
  globalThis.gc?.()
}
await engine.ready()
const start = held()
await comeAndGo(ROUNDS)
console.log(JSON.stringify({ start, often: held() }))
await engine.close()
rmSync(folder, { recursive: true })

import { spawn } from 'node:child_process'
import { mkdtemp, readdir, rm, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { compilePackage } from '../long/compiled.ts'

const compiled = compilePackage()
let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'blockscale-start-'))
})
afterAll(() => {
  compiled.remove()
  return rm(folder, { recursive: true, force: true })
})

/** Starts it in an empty folder, waits until it serves, asks for the plan, stops it. */
async function start() {
  const began = Date.now()
  const child = spawn(process.execPath, [compiled.main, 'start', '--port', '0', '--json'], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let stdout = ''
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', (text) => {
      stdout += text
      if (stdout.trimEnd().endsWith('}')) resolve()
    })
    child.once('exit', (code) => reject(new Error(`it ended with ${code}`)))
  })
  const ms = Date.now() - began
  const { url } = JSON.parse(stdout) as { url: string }
  const plan = (await (await fetch(`${url}/v1/plan`)).json()) as { models: { model: string }[] }
  const code = await new Promise((resolve) => {
    child.once('exit', resolve)
    child.kill('SIGINT')
  })
  return { ms, code, models: plan.models.map(({ model }) => model) }
}

test('the first start prepares what ships with the package, the second one is instant', async () => {
  const first = await start()
  expect(first.code).toBe(0)
  expect(first.models.length).toBeGreaterThanOrEqual(3)
  const second = await start()
  expect(second).toMatchObject({ code: 0, models: first.models })
  expect(second.ms).toBeLessThan(first.ms / 4)

  // A damaged model is left out, the others are served.
  const [broken, ...whole] = [...first.models].sort()
  const blocks = join(folder, 'zoo', broken!, 'blocks')
  for (const file of await readdir(blocks, { recursive: true })) {
    if (file.endsWith('.onnx')) await truncate(join(blocks, file), 100)
  }
  await rm(join(folder, 'zoo', '.device'), { recursive: true })
  const third = await start()
  expect({ ...third, models: [...third.models].sort() }).toMatchObject({ code: 0, models: whole })
})

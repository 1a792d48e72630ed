import { spawn } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { type AddressInfo, createServer as createTcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { assets } from '../assets.ts'
import { type Called, calling } from '../cli/calling.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const tsx = import.meta.resolve('tsx')

export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** A folder as a reader of the documents has it before them, and a shell in it. */
export interface Stage {
  readonly folder: string
  /** Runs one command as bash does; what the documents call port 8080 is a free one here. */
  bash(command: string): Promise<Ran>
  /** Runs `blockscale` in a process of its own, and interrupts it as a person would, once it prints what `until` finds. */
  interrupted(argv: readonly string[], until: RegExp): Promise<Ran>
  close(): Promise<void>
}

/**
 * Sets the stage: the pictures and files that the documents speak of, made from the bundled packages. `blockscale` in the shell is
 * the program of this checkout; it runs in the process of the test, which saves starting it for each command.
 */
export async function openStage(): Promise<Stage> {
  const folder = await mkdtemp(join(tmpdir(), 'blockscale-docs-'))
  await furnish(folder)
  const port = await freePort()
  const home = process.cwd()
  process.chdir(folder)
  let serving: ReturnType<typeof calling> | undefined
  const stop = async () => {
    serving?.interrupt()
    await serving?.done
    serving = undefined
  }
  const blockscale = async (argv: readonly string[]): Promise<Ran> => {
    if (argv[0] !== 'serve' && argv[0] !== 'start') return calling(argv).done
    await stop()
    serving = calling([...argv, '--log', 'error', '--port', `${port}`])
    // it goes on in the background, as in a terminal of its own
    const ended = serving.done.then((result) => result as Called | undefined)
    while (!/\n/.test(serving.texts.stdout)) {
      const result = await Promise.race([
        ended,
        new Promise<undefined>((wait) => setTimeout(() => wait(undefined), 20)),
      ])
      if (result) return result
    }
    return { code: 0, ...serving.texts }
  }
  const door = createServer((request, response) => {
    void (async () => {
      let body = ''
      for await (const part of request) body += part
      const { code, stdout, stderr } = await blockscale(JSON.parse(body) as string[])
      response.end(JSON.stringify({ code, stdout, stderr }))
    })()
  })
  const socket = join(folder, '.door')
  await new Promise<void>((resolve) => door.listen(socket, resolve))
  return {
    folder,
    bash: (command) =>
      ran('bash', ['-euo', 'pipefail', '-c', onPort(command, port)], folder, {
        ...process.env,
        PATH: `${join(folder, '.bin')}:${process.env.PATH}`,
        HOME: join(folder, '.home'),
        BLOCKSCALE_DOOR: socket,
      }),
    interrupted: (argv, until) =>
      ran(process.execPath, ['--import', tsx, join(root, 'src/cli/main.ts'), ...argv], folder, process.env, until),
    async close() {
      await stop()
      await new Promise((resolve) => door.close(resolve))
      process.chdir(home)
      await rm(folder, { recursive: true, force: true })
    },
  }
}

const COMPLETIONS = '.local/share/bash-completion/completions'

const onPort = (command: string, port: number): string => command.replaceAll('8080', `${port}`)

async function furnish(folder: string): Promise<void> {
  const zoo = join(root, 'model-zoo')
  for (const name of ['model-zoo', 'examples']) await symlink(join(root, name), join(folder, name))
  for (const name of ['.bin', '.home/.zsh', `.home/${COMPLETIONS}`, 'nets', 'node_modules', 'photos', 'frames']) {
    await mkdir(join(folder, name), { recursive: true })
  }
  await symlink(root, join(folder, 'node_modules/blockscale'))
  await symlink(join(zoo, 'road-signs/validation'), join(folder, 'labelled'))
  await cp(join(zoo, 'road-signs/model.onnx'), join(folder, 'nets/mine.onnx'))
  await cp(join(zoo, 'road-signs/model.onnx'), join(folder, 'signs.onnx'))
  await cp(join(zoo, 'road-signs/validation/stop/000.jpg'), join(folder, 'sign.jpg'))
  await cp(join(zoo, 'sign-detector/validation/000.jpg'), join(folder, 'street.jpg'))
  for (const label of await readdir(join(zoo, 'road-signs/calibration'))) {
    await cp(join(zoo, 'road-signs/calibration', label, '000.jpg'), join(folder, 'photos', `${label}.jpg`))
  }
  // what a camera saw of late: other pictures than any of the others
  for (const label of await readdir(join(zoo, 'road-signs/validation'))) {
    for (const name of ['002.jpg', '003.jpg', '004.jpg']) {
      await cp(join(zoo, 'road-signs/validation', label, name), join(folder, 'frames', `${label}-${name}`))
    }
  }
  const choice = (id: string, loss: number, memoryBytes: number) => ({ id, loss, latencyMs: 1, memoryBytes })
  const block = { id: 'b0', choices: [choice('original', 0, 8e5), choice('int8', 0.01, 2e5)] }
  const problem = { memoryBytes: 1e6, models: [{ id: 'm', quality: 0.9, blocks: [block] }] }
  await writeFile(join(folder, 'problem.json'), JSON.stringify(problem))
  if (assets) {
    await symlink(assets, join(folder, '.home/assets'))
    await symlink(join(assets, 'models'), join(folder, '.home/models'))
  }
  const shims = {
    blockscale: `exec '${process.execPath}' '${join(folder, '.bin/door.mjs')}' "$@"`,
    npx: `case $1 in blockscale) shift; exec blockscale "$@";; tsx) shift; exec '${process.execPath}' --import '${tsx}' "$@";; esac; exit 127`,
    // an answer that is an error ends with an exit code, as a command does
    curl: `PATH=\${PATH#*:}; exec curl --silent --show-error --fail-with-body "$@"`,
  }
  for (const [name, line] of Object.entries(shims)) {
    await writeFile(join(folder, '.bin', name), `#!/bin/sh\n${line}\n`, { mode: 0o755 })
  }
  await writeFile(join(folder, '.bin/door.mjs'), DOOR)
}

/** Hands a command line to the test's process, and its output and exit code back to the shell. */
const DOOR = `import { request } from 'node:http'
const asking = request({ socketPath: process.env.BLOCKSCALE_DOOR, method: 'POST' }, async (response) => {
  let body = ''
  for await (const part of response) body += part
  const { code, stdout, stderr } = JSON.parse(body)
  process.stderr.write(stderr)
  process.exitCode = code
  process.stdout.write(stdout)
})
asking.end(JSON.stringify(process.argv.slice(2)))
`

function ran(
  program: string,
  args: readonly string[],
  cwd: string,
  env: NodeJS.ProcessEnv,
  until?: RegExp,
): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
    const texts = { stdout: '', stderr: '' }
    let isTold = false
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].setEncoding('utf8').on('data', (text: string) => {
        texts[name] += text
        if (!isTold && until?.test(texts[name])) isTold = child.kill('SIGINT')
      })
    }
    child.once('error', reject)
    child.once('close', (code) => resolve({ code: code ?? -1, ...texts }))
  })
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const probe = createTcpServer().listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo
      probe.close(() => resolve(port))
    })
  })
}

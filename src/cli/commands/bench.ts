import { spawn } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Command } from 'commander'
import { BlockscaleError } from '../../base/index.ts'
import { withExamples, withJson } from '../options.ts'
import { packageFolder } from '../package-info.ts'
import type { Shell } from '../shell.ts'
import { tableOf } from '../table.ts'

interface Bench {
  readonly name: string
  readonly about: string
}

/** `blockscale bench` */
export function addBench(program: Command, shell: Shell): void {
  const command = program
    .command('bench')
    .description('benchmarks with ratios; they are part of the source tree. Without a name: which there are')
    .argument('[name]', 'a benchmark')
    .argument('[args...]', 'what it takes')
    .passThroughOptions()
    .action(async (name: string | undefined, args: string[], options: { json?: true }) => {
      const benches = await findBenches()
      if (name === undefined) {
        if (options.json) return shell.json(benches)
        const rows = benches.map((bench) => [bench.name, bench.about])
        return shell.line(tableOf([{ name: 'bench' }, { name: 'about', width: 90 }], rows, shell.style))
      }
      if (!benches.some((bench) => bench.name === name)) {
        const there = benches.map((bench) => bench.name).join(', ')
        throw new BlockscaleError('USAGE', `there is no benchmark "${name}"`, `choose one of ${there}`)
      }
      shell.exitCode = (await start(shell, name, args)) === 0 ? 0 : 1
    })
  withExamples(withJson(command), [
    ['bench', 'which there are'],
    ['bench tasks ~/assets yunet-n-320', 'one of them, with what it takes'],
  ])
}

/** The programs among the files of bench/: those whose head says how to run them. */
async function findBenches(): Promise<Bench[]> {
  const folder = join(packageFolder, 'bench')
  const files = await readdir(folder).catch(() => [] as string[])
  const benches: Bench[] = []
  for (const file of files.filter((each) => each.endsWith('.ts')).sort()) {
    const head = (await readFile(join(folder, file), 'utf8')).slice(0, 2000)
    if (!head.includes(`npx tsx bench/${file}`)) continue
    const about = /^\/\*\*\s*\n?([\s\S]*?)(?:\n \*\s*\n|\*\/)/.exec(head)?.[1] ?? ''
    benches.push({
      name: file.slice(0, -'.ts'.length),
      about: about
        .replace(/^\s*\* ?/gm, ' ')
        .replace(/\s+/g, ' ')
        .trim(),
    })
  }
  if (benches.length === 0) {
    throw new BlockscaleError(
      'NOT_FOUND',
      'the benchmarks are not here',
      'they are in the source tree, not in the published package: clone the repository',
    )
  }
  return benches
}

function start(shell: Shell, name: string, args: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--import', 'tsx', join('bench', `${name}.ts`), ...args], {
      cwd: packageFolder,
      stdio: 'inherit',
    })
    shell.signal.addEventListener('abort', () => child.kill('SIGINT'), { once: true })
    child.once('error', reject)
    child.once('exit', (code) => resolve(code ?? 1))
  })
}

import { readdir } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { assets } from '../assets.ts'
import { commandsOf, type ShellBlock, shellBlocks } from '../cli/shell-blocks.ts'
import { openStage, type Ran, type Stage } from '../cli/stage.ts'

const MOST_MS = 600_000
const docs = new URL('../../docs/', import.meta.url)
const first = ['docs/tutorial.md', 'README.md', 'docs/commands.md']
const others = (await readdir(docs)).filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`)
/** In the order in which a reader takes them: what the tutorial builds is there afterwards. */
const documents = [...new Set([...first, ...others.sort()])]
const blocks = new Map(await Promise.all(documents.map(async (name) => [name, await shellBlocks(name)] as const)))

let stage: Stage
beforeAll(async () => {
  stage = await openStage()
})
afterAll(() => stage?.close())

/** Names that some documents use for models and files of their readers, and what stands for them on the stage. */
const STANDS_FOR: Readonly<Record<string, string>> = {
  'nanodet-m-320': 'sign-detector',
  'ultraface-rfb-320': 'sign-detector',
  'models/road-signs/': 'models/signs/',
  '/etc/bash_completion.d/': '',
}

/** What is not run here, and where it is. */
const ELSEWHERE: readonly (readonly [RegExp, string])[] = [
  [/^npm install/, 'what CI does before it tests; `npm start` is test/long/start.test.ts'],
  [/^npm test\b/, 'this is it'],
  [/^blockscale bench runtime/, 'a benchmark of minutes; its results are in bench/results'],
  [/^npm run train:zoo/, 'half an hour of training; what it made is tested in test/model-zoo'],
]

describe.each(documents)('every command in %s does what a reader expects', (name) => {
  // docs/http.md begins with a service that runs
  beforeAll(async () => {
    if (name === 'docs/http.md') expect(await stage.bash('blockscale serve')).toMatchObject({ code: 0 })
  })
  test.each(
    blocks
      .get(name)!
      .flatMap(commandsOf)
      .map((command) => [command.at, firstLine(command), command] as const),
  )(
    '%s: %s',
    async (_, __, command) => {
      const { code, stdout, stderr } = await perform(command)
      expect({ code, stdout, stderr }).toMatchObject({ code: 0 })
    },
    // a build measures in processes of their own, one after the other: minutes where others want the cores too
    MOST_MS,
  )
  if (blocks.get(name)!.length === 0) test('it has none', () => {})
})

test('what is run elsewhere is still in the documents', () => {
  const all = [...blocks.values()].flat().flatMap(commandsOf)
  for (const [pattern] of ELSEWHERE.slice(0, 2)) expect(all.some(({ text }) => pattern.test(text))).toBe(true)
})

const done: Ran = { code: 0, stdout: '', stderr: '' }

async function perform({ text }: ShellBlock): Promise<Ran> {
  if (ELSEWHERE.some(([pattern]) => pattern.test(text))) return done
  let command = text
  for (const [name, stand] of Object.entries(STANDS_FOR)) command = command.replaceAll(name, stand)
  const build = /^(?:npx )?blockscale (build \S+|start)\b([^\\#]*)/.exec(command)
  if (build && !/--recipes/.test(command)) {
    return begun(`${build[1]} ${build[2]}`.trim().split(/\s+/))
  }
  const result = await stage.bash(command)
  return excused(command, result) ? done : result
}

/**
 * A whole build takes a minute, and two of them are done above. The others are interrupted once they make descendants: what a
 * person does who has seen enough, and nothing may be left half-written.
 */
async function begun(argv: readonly string[]): Promise<Ran> {
  const result = await stage.interrupted([...argv, '--zoo', 'begun', '--json'], /^ {2}b\d \S+$|make descendants/m)
  expect(result.stderr).toMatch(/interrupted: /)
  expect(result.code).toBe(130)
  return done
}

/** CI may be cut off from the network, and a machine may lack the catalogue's files: then the refusal has to be the right one. */
function excused(command: string, { code, stderr }: Ran): boolean {
  if (/^blockscale pull \S+ --from/.test(command))
    return !assets && code === 1 && /no file in|cannot read the folder/.test(stderr)
  if (/^blockscale pull/.test(command)) return code === 1 && /error: .*(fetch|download|answered)/i.test(stderr)
  return false
}

function firstLine({ text }: ShellBlock): string {
  return text.split('\n')[0]!.replace(/ +#.*/, '').trim()
}

import { readdir } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { assets } from '../assets.ts'
import { commandsOf, shellBlocks } from './shell-blocks.ts'
import { openStage, type Ran, type Stage } from './stage.ts'

const docs = new URL('../../docs/', import.meta.url)
/** In the order in which a reader takes them: what one builds is there for those that come after. */
const first = ['tutorial.md', 'how-it-works.md', 'commands.md', 'service.md', 'http.md']
const others = (await readdir(docs)).filter((name) => name.endsWith('.md') && !first.includes(name)).sort()
/** Each on a stage of its own. */
const readings = [['README.md'], [...first, ...others].map((name) => `docs/${name}`)]

let stage: Stage

/** What would not end here, or ends otherwise. All other commands are run as they stand and have to succeed. */
interface Special {
  readonly pattern: RegExp
  readonly why: string
  /** not run; where it is, is in `why` */
  readonly elsewhere?: true
  /** run only where the assets folder is */
  readonly assets?: true
  run?(command: string): Promise<void>
}

const specials: readonly Special[] = [
  { pattern: /^npm install/, why: 'what CI does before it tests, and test/docs/start.test.ts', elsewhere: true },
  { pattern: /^npm test/, why: 'this is it', elsewhere: true },
  {
    // those of docs/commands.md; README and tutorial write npx before it
    pattern: /^blockscale (build|start)\b/,
    why: 'interrupted once it makes descendants; README, tutorial and test/docs/start.test.ts build to the end',
    run: interrupted,
  },
  { pattern: /^blockscale pull .*--from/, why: 'takes a file of the assets folder', assets: true },
  { pattern: /^blockscale bench \w/, why: 'measures models of the assets folder', assets: true },
  {
    pattern: /^blockscale pull/,
    why: 'downloads: where there is no network it has to say so',
    async run(command) {
      const ran = await stage.bash(command)
      if (ran.code !== 0) expect(ran).toMatchObject({ code: 1, stderr: expect.stringMatching(/^error: .*\nhint: /m) })
    },
  },
  {
    pattern: /^curl -N/,
    why: 'events come until the client has enough',
    async run(command) {
      const ran = await stage.bash(command.replace('curl', 'curl --max-time 5'))
      expect(ran).toMatchObject({ code: 28, stdout: expect.stringContaining('event: live') })
    },
  },
  {
    pattern: /\/v1\/vision\/face/,
    why: 'none of the networks here finds faces, and the answer says so',
    async run(command) {
      const ran = await stage.bash(command)
      expect(ran).toMatchObject({ code: 22, stdout: expect.stringContaining('no model for face-detection') })
    },
  },
]

const commands = new Map(
  await Promise.all(
    readings.flat().map(async (name) => [name, (await shellBlocks(name)).flatMap(commandsOf)] as const),
  ),
)

describe.each(readings)('every command of %s and what follows does what a reader expects', (...documents) => {
  beforeAll(async () => {
    stage = await openStage()
  })
  afterAll(() => stage.close())

  for (const { at, text } of documents.flatMap((name) => commands.get(name)!)) {
    const special = specials.find(({ pattern }) => pattern.test(text))
    if (special?.elsewhere) continue
    const name = `${at}: ${text.split('\n')[0]!.replace(/ +#.*/, '')}${special ? ` (${special.why})` : ''}`
    test.skipIf(special?.assets && !assets)(name, async () => {
      if (special?.run) return special.run(text)
      const { code, stdout, stderr } = await stage.bash(text)
      expect({ code, said: code === 0 ? '' : stdout + stderr }).toEqual({ code: 0, said: '' })
    })
  }
})

test('what is special is still in the documents', () => {
  const all = [...commands.values()].flat().map(({ text }) => text)
  for (const { pattern } of specials) expect(all).toContainEqual(expect.stringMatching(pattern))
})

/** What a person does who has seen enough; nothing may be left half-written. */
async function interrupted(command: string): Promise<void> {
  const argv = command.replace(/#.*/, '').trim().split(/\s+/).slice(1)
  const ran: Ran = await stage.interrupted([...argv, '--zoo', 'begun', '--json'], /make descendants/)
  expect(ran).toMatchObject({ code: 130, stdout: '', stderr: expect.stringContaining('interrupted: ') })
}

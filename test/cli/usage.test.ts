import { execFileSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { commandDocs } from '../../scripts/command-docs.ts'
import { createProgram } from '../../src/cli/program.ts'
import { Shell } from '../../src/cli/shell.ts'
import { call } from './calling.ts'
import { temporaryFolder } from './tiny-model.ts'

const packageRoot = fileURLToPath(new URL('../..', import.meta.url))
const zoo = join(await temporaryFolder(), 'zoo')
const nowhere = { write() {} }
const program = () =>
  createProgram(new Shell({ stdout: nowhere, stderr: nowhere, env: {}, signal: new AbortController().signal }))

describe('wrong use ends with 2, says what is wrong and what to do', () => {
  const cases: readonly (readonly [string, readonly string[], RegExp])[] = [
    ['no command', [], /Usage: blockscale/],
    ['an unknown command', ['pln'], /unknown command 'pln'[\s\S]*Did you mean plan/],
    ['an unknown option', ['plan', '--memroy', '4MB'], /unknown option '--memroy'[\s\S]*Did you mean --memory/],
    ['a missing argument', ['build'], /missing required argument 'model'/],
    ['a missing option', ['eval', 'm'], /required option '--images <dir>'/],
    ['no model to plan', ['plan'], /no model is named/],
    ['a model twice', ['plan', 'a', 'a'], /a is named twice/],
    ['both a problem and models', ['plan', 'a', '--problem', 'f.json'], /brings its own models/],
    ['both a problem and limits', ['plan', '--problem', 'f.json', '--memory', '4MB'], /cannot be used with/],
    ['a negative budget', ['plan', 'm', '--memory', '-4MB'], /--memory: not a size: "-4MB"/],
    ['a budget of nothing', ['plan', 'm', '--memory', '0'], /--memory: not a size: "0"/],
    ['a budget that is no number', ['plan', 'm', '--memory', 'NaN'], /--memory: not a size: "NaN"/],
    ['an endless budget', ['serve', '--memory', 'Infinity'], /--memory: not a size/],
    ['a latency without a unit', ['plan', 'm', '--latency', '20'], /--latency: not a duration: "20"/],
    ['a negative latency', ['plan', 'm', '--latency', 'm=-20ms'], /--latency: not a duration/],
    ['a rate of zero', ['plan', 'm', '--rate', 'm=0'], /--rate: not a positive number: "0"/],
    ['a weight in hexadecimal', ['plan', 'm', '--weight', '0x10'], /--weight: not a positive number/],
    ['cores that are no number', ['plan', 'm', '--cores', 'two'], /--cores: not a positive number: "two"/],
    ['a limit for another model', ['plan', 'm', '--latency', 'n=20ms'], /--latency: "n" is none of the models/],
    [
      'an unknown objective',
      ['plan', 'm', '--objective', 'speed'],
      /"speed" is not known[\s\S]*quality, latency, memory/,
    ],
    ['half a block', ['build', 'm', '--blocks', '2.5'], /--blocks: not a whole number/],
    ['an unknown recipe', ['build', 'm', '--recipes', 'int8,magic'], /--recipes: "magic" is not known/],
    ['a port that is none', ['serve', '--port', '70000'], /--port: not a whole number from 0 to 65535/],
    [
      'two forms of a model',
      ['eval', 'm', '--images', '.', '--plan', 'p', '--choose', 'b0=int8'],
      /cannot be used with/,
    ],
    ['nothing chosen', ['export', 'm', '-o', 'x.onnx'], /nothing is chosen/],
    ['a shell that is none', ['completion', 'fish'], /"fish" is not known/],
    ['listening for others without a token', ['serve', '--host', '0.0.0.0', '--zoo', zoo], /lets others in/],
  ]
  test.each(cases)('%s', async (_, argv, says) => {
    const { code, stdout, stderr } = await call(...argv)
    expect(stderr).toMatch(says)
    expect(code).toBe(2)
    expect(stdout).toBe('')
    if (argv.length > 0) expect(stderr).toMatch(/^error: .+\nhint: .+\n$/)
  })
})

test('what does not exist ends with 1', async () => {
  for (const argv of [
    ['plan', 'nope', '--zoo', zoo],
    ['build', 'nope', '--zoo', zoo],
    ['run', 'nope', 'a.jpg', '--zoo', zoo],
    ['frontier', 'nope', '--zoo', zoo],
    ['profile', 'nope', '--zoo', zoo],
    ['pull', 'nope', '--zoo', zoo],
    ['inspect', '--zoo', zoo],
    ['init', 'nope.onnx'],
  ]) {
    const { code, stdout, stderr } = await call(...argv)
    expect([argv[0], code, stdout]).toEqual([argv[0], 1, ''])
    expect(stderr).toMatch(/^error: .*(nope|profile database)[\s\S]*\nhint: /)
  }
})

test('with --json errors are JSON, on standard error', async () => {
  const { code, stdout, stderr } = await call('inspect', '--json', '--zoo', zoo)
  expect([code, stdout]).toEqual([1, ''])
  const { error } = JSON.parse(stderr) as { error: Record<string, string> }
  expect(Object.keys(error)).toEqual(['code', 'message', 'hint'])
  expect(error.code).toBe('NOT_FOUND')
  const wrong = await call('plan', 'm', '--memory', '-1', '--json')
  expect([wrong.code, JSON.parse(wrong.stderr).error.code]).toEqual([2, 'USAGE'])
})

test('every command has a help text with examples that it understands', async () => {
  for (const command of program().commands) {
    const { code, stdout } = await call(command.name(), '--help')
    expect(code).toBe(0)
    const examples = /\nExamples:\n([\s\S]+)/.exec(stdout)?.[1] ?? ''
    expect([command.name(), examples]).toEqual([
      command.name(),
      expect.stringContaining(`$ blockscale ${command.name()}`),
    ])
    for (const flag of examples.replace(/ # .*/g, '').match(/ --[a-z-]+/g) ?? []) {
      expect([command.name(), command.options.map(({ long }) => ` ${long}`)]).toEqual([
        command.name(),
        expect.arrayContaining([flag]),
      ])
    }
  }
  expect((await call('--version')).stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
})

test('completion names every command and option', async () => {
  for (const shell of ['bash', 'zsh']) {
    const { code, stdout } = await call('completion', shell)
    expect(code).toBe(0)
    for (const command of program().commands) {
      expect(stdout).toContain(command.name())
      for (const { long } of command.options) expect(stdout).toContain(long)
    }
  }
})

test('bash completes commands, options and, after an option for a file, files', async () => {
  const script = (await call('completion', 'bash')).stdout
  const completed = (...words: string[]): string[] => {
    const asking = `${script}\nCOMP_WORDS=(blockscale "$@"); COMP_CWORD=$#; _blockscale; printf '%s\\n' "\${COMPREPLY[@]}"`
    const answer = execFileSync('bash', ['-c', asking, 'bash', ...words], { cwd: packageRoot, encoding: 'utf8' })
    return answer.split('\n').filter(Boolean)
  }
  expect(completed('fro')).toEqual(['frontier'])
  expect(completed('help', 'ex')).toEqual(['export'])
  expect(completed('plan', '--mem')).toEqual(['--memory'])
  expect(completed('run', 'm', '--plan', 'tsconfig.j')).toEqual(['tsconfig.json'])
})

test('docs/commands.md says what the commands say (npx tsx scripts/command-docs.ts writes it)', async () => {
  const docs = await readFile(new URL('../../docs/commands.md', import.meta.url), 'utf8')
  expect(docs).toBe(commandDocs())
})

test('doctor looks at the machine and changes nothing', async () => {
  const { json } = await call('doctor', '--json', '--zoo', zoo, '--port', '45871')
  const findings = json<{ check: string; status: string }[]>()
  expect(findings.filter(({ status }) => status === 'fail')).toEqual([])
  expect(findings.map(({ check }) => check)).toEqual(
    expect.arrayContaining([
      'Node.js',
      'ONNX Runtime',
      'CPU',
      'cores',
      'memory',
      'memory limit',
      'pictures',
      'zoo',
      'port',
    ]),
  )
  expect((await call('inspect', '--zoo', zoo)).code).toBe(1)
})

test('models lists the catalogue', async () => {
  const rows = (await call('models', '--json', '--zoo', zoo)).json<{ model: string; built: boolean }[]>()
  expect(rows.find(({ model }) => model === 'mobilenetv2')).toMatchObject({ where: 'catalogue', built: false })
  expect((await call('models', '--zoo', zoo)).stdout).toMatch(/mobilenetv2 .*classification/)
})

test('bench lists the benchmarks of the source tree', async () => {
  const rows = (await call('bench', '--json')).json<{ name: string; about: string }[]>()
  expect(rows.map(({ name }) => name)).toContain('runtime')
  expect(rows.map(({ name }) => name)).not.toContain('result')
  const unknown = await call('bench', 'nope')
  expect([unknown.code, unknown.stderr]).toEqual([2, expect.stringContaining('runtime')])
})

import { type Command, Option } from 'commander'
import { BlockscaleError, parseBytes, parseDuration } from '../base/index.ts'

/** Reads the text of an option. */
export type Parse<T> = (text: string) => T

const wrong = (option: string, what: string, hint: string): BlockscaleError =>
  new BlockscaleError('USAGE', `${option}: ${what}`, hint)

/** Says which option it was that could not be read. */
function named<T>(option: string, parse: Parse<T>): Parse<T> {
  return (text) => {
    try {
      return parse(text)
    } catch (error) {
      if (error instanceof BlockscaleError && error.code === 'USAGE' && !error.message.startsWith(option)) {
        throw wrong(option, error.message, error.hint)
      }
      throw error
    }
  }
}

export const bytes = (option: string): Parse<number> => named(option, parseBytes)
export const duration = (option: string): Parse<number> => named(option, parseDuration)

export const positive =
  (option: string): Parse<number> =>
  (text) => {
    const value = asNumber(text)
    if (Number.isFinite(value) && value > 0) return value
    throw wrong(option, `not a positive number: "${text}"`, 'write a number greater than 0, such as 2 or 0.5')
  }

export const wholeNumber =
  (option: string, least = 1, most = 1e6): Parse<number> =>
  (text) => {
    const value = asNumber(text)
    if (Number.isInteger(value) && value >= least && value <= most) return value
    throw wrong(option, `not a whole number from ${least} to ${most}: "${text}"`, 'write a number such as 4')
  }

export const oneOf =
  <const T extends string>(option: string, values: readonly T[]): Parse<T> =>
  (text) => {
    const found = values.find((value) => value === text)
    if (found !== undefined) return found
    throw wrong(option, `"${text}" is not known`, `choose one of ${values.join(', ')}`)
  }

export const someOf =
  <const T extends string>(option: string, values: readonly T[]): Parse<T[]> =>
  (text) =>
    list(text).map(oneOf(option, values))

/** Decimal numbers only: `Number` would also take '', '0x10' and ' 7 '. */
const asNumber = (text: string): number =>
  /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : Number.NaN

export const list = (text: string): string[] =>
  text
    .split(',')
    .map((each) => each.trim())
    .filter((each) => each !== '')

/** A value for one model (`m=20ms`), or for all that have none of their own (`20ms`). */
export interface ForModel<T> {
  readonly model?: string | undefined
  readonly value: T
}

/** Collects an option that may be given several times, or once with commas. */
export const forModels =
  <T>(parse: Parse<T>) =>
  (text: string, before: readonly ForModel<T>[] = []): readonly ForModel<T>[] => [
    ...before,
    ...text.split(',').map((part) => {
      const at = part.lastIndexOf('=')
      return at < 0
        ? { value: parse(part.trim()) }
        : { model: part.slice(0, at).trim(), value: parse(part.slice(at + 1).trim()) }
    }),
  ]

/**
 * What a model gets of such an option: its own value, else the one for all.
 *
 * @throws BlockscaleError USAGE when it names a model that is not among `models`
 */
export function valuesFor<T>(
  option: string,
  given: readonly ForModel<T>[] | undefined,
  models: readonly string[],
): (model: string) => T | undefined {
  for (const { model } of given ?? []) {
    if (model === undefined || models.includes(model)) continue
    throw wrong(
      option,
      `"${model}" is none of the models`,
      `write it with one of ${models.join(', ')}, such as ${models[0]}=…`,
    )
  }
  return (model) =>
    (given?.findLast((each) => each.model === model) ?? given?.findLast((each) => each.model === undefined))?.value
}

/** An option whose text is read by `parse`, with a name for what it takes. */
export const option = <T>(flags: string, description: string, parse: (option: string) => Parse<T>): Option =>
  new Option(flags, description).argParser(parse(/--[\w-]+/.exec(flags)![0]) as (text: string) => T)

export const withZoo = (command: Command): Command =>
  command.addOption(new Option('--zoo <dir>', 'folder of built models').default('zoo'))

export const withJson = (command: Command): Command =>
  command.option('--json', 'print JSON on standard output, and nothing else there')

/** Examples at the end of a command's help: pairs of a command line and what it does. */
export const withExamples = (command: Command, examples: readonly (readonly [string, string])[]): Command => {
  const width = Math.max(...examples.map(([call]) => call.length))
  const rows = examples.map(([call, does]) => `  $ blockscale ${call.padEnd(width)}  # ${does}`)
  return command.addHelpText('after', `\nExamples:\n${rows.join('\n')}`)
}

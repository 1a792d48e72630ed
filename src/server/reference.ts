import { slug } from './html.ts'
import type { OpenApiDocument } from './openapi.ts'
import { type Contents, type Operation, operationsOf } from './operations.ts'
import { type Field, type Outline, outlineOf, type Word } from './schema-outline.ts'

const HEAD = `# HTTP reference

Every route of \`blockscale serve\`, from the schemas that check its requests. [The HTTP service](service.md) says how it is used; a
running service has this page at \`/docs\` and the OpenAPI document that it is made from at \`/openapi.json\`.

The calls below are made to a service of the two models that the [tutorial](tutorial.md) builds, \`signs\` and \`sign-detector\`.
\`street.jpg\` is any picture; \`request.json\` holds tensors and is [made here](service.md#clients-that-exist).
Whatever goes wrong is answered with a code that [errors.md](errors.md) explains, also where no status but 200 is listed.
`

/** The OpenAPI document as a page of Markdown. */
export function httpReference(document: OpenApiDocument): string {
  const operations = operationsOf(document)
  const tags = [...new Set(operations.map(({ tag }) => tag))]
  const overview = operations.map(
    (each) => `| [\`${titleOf(each)}\`](#${anchorOf(titleOf(each))}) | ${cell(each.summary)} |`,
  )
  const sections = tags.map((tag) =>
    [`## ${headline(tag)}`, ...operations.filter((each) => each.tag === tag).map(operationText)].join('\n\n'),
  )
  const shapes = Object.entries(document.components?.schemas ?? {}).map(
    ([name, schema]) => `### ${name}\n\n${outlineText(outlineOf(schema))}`,
  )
  return `${[HEAD.trimEnd(), `| route | does |\n|---|---|\n${overview.join('\n')}`, ...sections, '## Schemas', ...shapes].join('\n\n')}\n`
}

const titleOf = ({ method, path }: Operation): string => `${method} ${path}`
const headline = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1)

/** As GitHub names the anchor of a heading. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[^\w\- ]/g, '')
    .replaceAll(' ', '-')

function operationText(operation: Operation): string {
  const { summary, description, parameters, body, answers, curl } = operation
  const rows = parameters.map(
    (each) =>
      `| \`${each.name}\` | in the ${each.place}${each.optional ? ', optional' : ''} | ${cell(each.description)} |`,
  )
  const status = answers.map((each) => {
    const contents = each.contents.map(contentsInline).join('; ')
    return `| ${each.status} | ${cell(each.description)} | ${contents} |`
  })
  return [
    `### \`${titleOf(operation)}\``,
    `${summary}.${description ? ` ${description}` : ''}`,
    ...(curl ? [`\`\`\`sh\n${curl}\n\`\`\``] : []),
    ...(rows.length ? [`| parameter | | |\n|---|---|---|\n${rows.join('\n')}`] : []),
    ...(body.length ? [`Body: ${body.map(contentsInline).join('; or ')}.`] : []),
    `| status | | answer |\n|---|---|---|\n${status.join('\n')}`,
    ...answers.flatMap(({ contents }) =>
      contents.flatMap(({ outline }) => (isTable(outline) ? [outlineText(outline)] : [])),
    ),
  ].join('\n\n')
}

const isTable = ({ kind }: Outline): boolean => kind !== 'type'

/** In a line; the fields of an object that has no name stand in a table of their own. */
const contentsInline = ({ types, outline }: Contents): string =>
  `${types.map((type) => `\`${type}\``).join(', ')}: ${outline.kind === 'type' ? wordsText(outline.type) : 'see below'}`

function outlineText(outline: Outline): string {
  if (outline.kind === 'type') return wordsText(outline.type)
  if (outline.kind === 'choices') return `One of\n\n${outline.choices.map(outlineText).join('\n\n')}`
  const of = { object: '', list: 'A list of\n\n', map: 'For each name\n\n' }[outline.of]
  return `${of}| field | type | |\n|---|---|---|\n${outline.fields.map(fieldText).join('\n')}`
}

const fieldText = ({ name, type, optional, description }: Field): string =>
  `| \`${name}\` | ${wordsText(type)}${optional ? ', optional' : ''} | ${cell(description)} |`

const wordsText = (words: readonly Word[]): string =>
  words
    .map((word) => {
      if ('text' in word) return cell(word.text)
      if ('code' in word) return `\`${cell(word.code)}\``
      return `[${word.schema}](#${slug(word.schema)})`
    })
    .join('')

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ')

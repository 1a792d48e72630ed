import { escapeHtml, slug } from './html.ts'

type Json = Readonly<Record<string, unknown>>

/** A JSON schema as HTML: the fields of an object as a table, everything else as a line of words. References are links. */
export function schemaHtml(schema: unknown): string {
  const { properties, oneOf, anyOf } = schema as Json
  if (properties) return fieldsHtml(schema as Json)
  const choices = (oneOf ?? anyOf) as Json[] | undefined
  if (choices?.some(isObject)) return `<p>one of</p>${choices.map(schemaHtml).join('')}`
  const inner = itemsOf(schema as Json)
  if (inner && isObject(inner))
    return `<p>${inner === (schema as Json).items ? 'list of' : 'for each name'}</p>${fieldsHtml(inner)}`
  return `<p>${typeHtml(schema as Json)}</p>`
}

function fieldsHtml({ properties, required }: Json): string {
  const known = new Set((required as string[] | undefined) ?? [])
  const rows = Object.entries(properties as Record<string, Json>).map(([name, field]) => {
    const inner = isObject(field) ? field : itemsOf(field)
    const nested = inner && isObject(inner) ? fieldsHtml(inner) : ''
    const words = field.description ? escapeHtml(String(field.description)) : ''
    return `<tr><td><code>${escapeHtml(name)}</code></td><td>${typeHtml(field)}${known.has(name) ? '' : ', optional'}</td><td>${words}${nested}</td></tr>`
  })
  return `<table><thead><tr><th>field</th><th>type</th><th></th></tr></thead><tbody>${rows.join('')}</tbody></table>`
}

const isObject = (schema: Json): boolean => schema.properties !== undefined

/** What a list or a map holds. */
function itemsOf({ items, additionalProperties }: Json): Json | undefined {
  const inner = items ?? additionalProperties
  return typeof inner === 'object' && inner !== null && Object.keys(inner).length > 0 ? (inner as Json) : undefined
}

function typeHtml(schema: Json): string {
  const { $ref, oneOf, anyOf, allOf, enum: values, const: only, type, prefixItems, format } = schema
  if (typeof $ref === 'string') {
    const name = $ref.split('/').at(-1)!
    return `<a href="#schema-${slug(name)}">${escapeHtml(name)}</a>`
  }
  const choices = (oneOf ?? anyOf ?? allOf) as Json[] | undefined
  if (choices) return choices.map(typeHtml).join(allOf ? ' and ' : ' or ')
  if (only !== undefined) return `<code>${escapeHtml(JSON.stringify(only))}</code>`
  if (Array.isArray(values)) return values.map((each) => `<code>${escapeHtml(String(each))}</code>`).join(' ')
  if (Array.isArray(prefixItems)) return `[${prefixItems.map((each) => typeHtml(each as Json)).join(', ')}]`
  const inner = itemsOf(schema)
  if (inner) return `${schema.items ? 'list of' : 'map of names to'} ${isObject(inner) ? 'objects' : typeHtml(inner)}`
  if (format === 'binary') return 'the bytes of the file'
  const words = [Array.isArray(type) ? type.join(' or ') : (type ?? 'anything'), format, rangeOf(schema)]
  return escapeHtml(words.filter(Boolean).join(', '))
}

function rangeOf({ minimum, maximum, exclusiveMinimum }: Json): string {
  const from =
    exclusiveMinimum !== undefined ? `more than ${exclusiveMinimum}` : minimum !== undefined ? `from ${minimum}` : ''
  // every integer has these bounds: they say nothing
  const isBound = maximum !== undefined && maximum !== Number.MAX_SAFE_INTEGER
  return [minimum === Number.MIN_SAFE_INTEGER ? '' : from, isBound ? `to ${maximum}` : ''].filter(Boolean).join(' ')
}

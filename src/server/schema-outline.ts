type Json = Readonly<Record<string, unknown>>

/** A piece of what a type is called: plain words, something literal, or another schema. */
export type Word = { readonly text: string } | { readonly code: string } | { readonly schema: string }

/** One field of an object; fields of what it holds stand after it, as `plan.models[].core`. */
export interface Field {
  readonly name: string
  readonly type: readonly Word[]
  readonly optional: boolean
  readonly description: string
}

/** What there is to say of a JSON schema, whoever says it: fields of an object, one of several, or a type. */
export type Outline =
  | { readonly kind: 'fields'; readonly of: 'object' | 'list' | 'map'; readonly fields: readonly Field[] }
  | { readonly kind: 'choices'; readonly choices: readonly Outline[] }
  | { readonly kind: 'type'; readonly type: readonly Word[] }

/** The outline of a JSON schema, such as one of an OpenAPI document. */
export function outlineOf(schema: unknown): Outline {
  const given = schema as Json
  if (isObject(given)) return { kind: 'fields', of: 'object', fields: fieldsOf(given, '') }
  const choices = (given.oneOf ?? given.anyOf) as Json[] | undefined
  if (choices?.some(isObject)) return { kind: 'choices', choices: choices.map(outlineOf) }
  const inner = itemsOf(given)
  if (inner && isObject(inner)) {
    return { kind: 'fields', of: inner === given.items ? 'list' : 'map', fields: fieldsOf(inner, '') }
  }
  return { kind: 'type', type: typeOf(given) }
}

function fieldsOf({ properties, required }: Json, before: string): Field[] {
  const known = new Set((required as string[] | undefined) ?? [])
  return Object.entries(properties as Record<string, Json>).flatMap(([key, schema]) => {
    const name = before + key
    const field = {
      name,
      type: typeOf(schema),
      optional: !known.has(key),
      description: String(schema.description ?? ''),
    }
    if (isObject(schema)) return [field, ...fieldsOf(schema, `${name}.`)]
    const inner = itemsOf(schema)
    if (!inner || !isObject(inner)) return [field]
    return [field, ...fieldsOf(inner, schema.items ? `${name}[].` : `${name}.*.`)]
  })
}

const isObject = (schema: Json): boolean => schema.properties !== undefined

/** What a list or a map holds. */
function itemsOf({ items, additionalProperties }: Json): Json | undefined {
  const inner = items ?? additionalProperties
  return typeof inner === 'object' && inner !== null && Object.keys(inner).length > 0 ? (inner as Json) : undefined
}

function typeOf(schema: Json): Word[] {
  const { $ref, oneOf, anyOf, allOf, enum: values, const: only, type, prefixItems, format } = schema
  if (typeof $ref === 'string') return [{ schema: $ref.split('/').at(-1)! }]
  const choices = (oneOf ?? anyOf ?? allOf) as Json[] | undefined
  if (choices) return joined(choices.map(typeOf), allOf ? ' and ' : ' or ')
  if (only !== undefined) return [{ code: JSON.stringify(only) }]
  if (Array.isArray(values))
    return joined(
      values.map((each): Word[] => [{ code: String(each) }]),
      ' ',
    )
  if (Array.isArray(prefixItems)) {
    return [
      { text: '[' },
      ...joined(
        prefixItems.map((each) => typeOf(each as Json)),
        ', ',
      ),
      { text: ']' },
    ]
  }
  const inner = itemsOf(schema)
  if (inner) {
    const of: Word = { text: schema.items ? 'list of ' : 'map of names to ' }
    return [of, ...(isObject(inner) ? [{ text: 'objects' }] : typeOf(inner))]
  }
  if (format === 'binary') return [{ text: 'the bytes of the file' }]
  const words = [Array.isArray(type) ? type.join(' or ') : (type ?? 'anything'), format, rangeOf(schema)]
  return [{ text: words.filter(Boolean).join(', ') }]
}

const joined = (parts: readonly (readonly Word[])[], between: string): Word[] =>
  parts.flatMap((part, i) => (i === 0 ? part : [{ text: between }, ...part]))

function rangeOf({ minimum, maximum, exclusiveMinimum }: Json): string {
  const from =
    exclusiveMinimum !== undefined ? `more than ${exclusiveMinimum}` : minimum !== undefined ? `from ${minimum}` : ''
  // every integer has these bounds: they say nothing
  const isBound = maximum !== undefined && maximum !== Number.MAX_SAFE_INTEGER
  return [minimum === Number.MIN_SAFE_INTEGER ? '' : from, isBound ? `to ${maximum}` : ''].filter(Boolean).join(' ')
}

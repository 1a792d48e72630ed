declare const brand: unique symbol
type Branded<T, B extends string> = T & { readonly [brand]: B }

export type ModelId = Branded<string, 'ModelId'>
export type BlockId = Branded<string, 'BlockId'>
export type DescendantId = Branded<string, 'DescendantId'>

/** A name that is safe as a folder, a file and a part of a URL. */
const NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/i

export const isName = (text: string): boolean => NAME.test(text) && !text.includes('..')

export const modelId = (text: string): ModelId => text as ModelId
export const blockId = (text: string): BlockId => text as BlockId
export const descendantId = (text: string): DescendantId => text as DescendantId

/** The descendant that is the block as it came, present in every block. */
export const ORIGINAL = descendantId('original')

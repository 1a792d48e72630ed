import { useEffect, useRef, useState } from 'preact/hooks'
import * as format from './format.js'
import { html } from './html.js'

/** How a descendant was made, in the order of the legend; the colours are in style.css by the same names. */
export const kinds = ['original', 'int8', 'prune', 'prune-int8', 'low-rank', 'merge', 'drop']

export const Legend = ({ used }) =>
  html`<ul class="legend" aria-label="Colours of the blocks">
    ${kinds
      .filter((kind) => used.has(kind))
      .map((kind) => html`<li key=${kind}><span class=${`swatch kind-${kind}`}></span>${kind}</li>`)}
  </ul>`

/**
 * A model as a tower: one brick for each block, the first at the bottom, as wide as the share of its original bytes that
 * the descendant in place keeps. Bricks that were just swapped flash.
 */
export function Tower({ model, summary }) {
  const changed = useChanged(model.blocks)
  return html`<ol class="tower" aria-label=${`Blocks of ${model.model}, the first at the bottom`}>
    ${[...model.blocks].reverse().map((block) => {
      const original = summary?.blocks
        .find((each) => each.id === block.id)
        ?.descendants.find((each) => each.kind === 'original')?.bytes
      const share = original ? Math.min(1, block.bytes / original) : 1
      const label = `${block.id}: ${block.descendant}, ${format.bytes(block.bytes)}${original ? ` of ${format.bytes(original)}` : ''}`
      return html`<li key=${block.id} class=${changed.has(block.id) ? 'changed' : ''} title=${label}>
        <span class=${`brick kind-${block.kind}`} style=${{ width: `${Math.round(34 + 66 * share)}%` }}>
          <b>${block.id}</b> <span>${block.descendant}</span>
        </span>
        <small>${format.bytes(block.bytes)}</small>
      </li>`
    })}
  </ol>`
}

/** Ids of the blocks whose descendant changed within the last moment. */
function useChanged(blocks) {
  const before = useRef(new Map())
  const [changed, setChanged] = useState(new Set())
  const now = blocks.map(({ id, descendant }) => `${id}=${descendant}`).join()
  useEffect(() => {
    const known = before.current
    const ids = new Set(
      blocks.filter(({ id, descendant }) => known.has(id) && known.get(id) !== descendant).map(({ id }) => id),
    )
    before.current = new Map(blocks.map(({ id, descendant }) => [id, descendant]))
    if (ids.size === 0) return undefined
    setChanged(ids)
    const end = setTimeout(() => setChanged(new Set()), 1600)
    return () => clearTimeout(end)
  }, [now])
  return changed
}

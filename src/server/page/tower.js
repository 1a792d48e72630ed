import { useEffect, useRef, useState } from 'preact/hooks'
import * as format from './format.js'
import { html } from './html.js'

/** How a descendant was made, in the order of the legend; the colours are in dashboard.css by the same names. */
export const kinds = ['original', 'int8', 'prune', 'prune-int8', 'low-rank', 'merge', 'drop', 'l1-distill']

const words = {
  original: 'as it came',
  int8: '8-bit integers',
  prune: 'fewer channels',
  'prune-int8': 'fewer channels, 8-bit integers',
  'low-rank': 'factored weights',
  merge: 'layers merged',
  drop: 'layers left out',
  'l1-distill': 'least filters out, then trained',
}

export const Legend = ({ used }) =>
  html`<ul class="legend" aria-label="Colours of the blocks">
    ${kinds
      .filter((kind) => used.has(kind))
      .map(
        (kind) => html`<li key=${kind}>
          <span class=${`swatch kind-${kind}`}></span>${kind} <span class="quiet">${words[kind]}</span>
        </li>`,
      )}
    <li><span class="swatch ghost"></span>size of the original</li>
  </ul>`

/**
 * A model as a tower: one brick for each block, the first at the bottom, as wide as the share of its original bytes that
 * the descendant in place keeps, inside the outline of the original. Bricks that were just swapped flash.
 */
export function Tower({ model, summary }) {
  const replaced = useReplaced(model.blocks)
  return html`<ol class="tower" aria-label=${`Blocks of ${model.model}, the first at the bottom`}>
    ${[...model.blocks].reverse().map((block) => {
      const descendants = summary?.blocks.find((each) => each.id === block.id)?.descendants
      const original = descendants?.find((each) => each.kind === 'original')?.bytes
      const share = original ? Math.min(1, block.bytes / original) : 1
      const before = replaced.get(block.id)
      const label = `${block.id}: ${block.descendant}, ${format.bytes(block.bytes)}${original ? ` of ${format.bytes(original)}` : ''}${before ? `; was ${before}` : ''}`
      return html`<li key=${block.id} class=${before ? 'changed' : ''} title=${label}>
        <b>${block.id}</b>
        <span class="outline">
          <span class=${`brick kind-${block.kind}`} style=${{ width: `${Math.max(6, Math.round(100 * share))}%` }}></span>
        </span>
        <span class="descendant">${block.descendant}</span>
        <small>${format.bytes(block.bytes)}</small>
      </li>`
    })}
  </ol>`
}

const SHOWN_MS = 2500

/** Of the blocks that were swapped within the last moment: what was there before. */
function useReplaced(blocks) {
  const known = useRef(new Map())
  const [replaced, setReplaced] = useState(new Map())
  const now = blocks.map(({ id, descendant }) => `${id}=${descendant}`).join()
  useEffect(() => {
    const before = known.current
    known.current = new Map(blocks.map(({ id, descendant }) => [id, descendant]))
    const changed = blocks.filter(({ id, descendant }) => before.has(id) && before.get(id) !== descendant)
    if (changed.length === 0) return undefined
    setReplaced(new Map(changed.map(({ id }) => [id, before.get(id)])))
    const end = setTimeout(() => setReplaced(new Map()), SHOWN_MS)
    return () => clearTimeout(end)
  }, [now])
  return replaced
}

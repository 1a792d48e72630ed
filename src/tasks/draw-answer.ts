import { encodeOverlay, encodePng, type Picture } from '../tensor/index.ts'
import type { Answer, Box } from './task.ts'

/** Twelve colours that are told apart on photographs; classes take them in turn. */
const colours = [
  '#e6194b',
  '#3cb44b',
  '#4363d8',
  '#f58231',
  '#911eb4',
  '#42d4f4',
  '#f032e6',
  '#bfef45',
  '#ffe119',
  '#469990',
  '#9a6324',
  '#fabed4',
] as const

const colourOf = (index: number): string => colours[index % colours.length]!

/** How much of the picture a mask covers up. */
const MASK_OPACITY = 0.5

/**
 * The picture with the answer drawn on it, as PNG bytes: boxes with labels, a coloured mask, the five best labels; the
 * larger picture of super-resolution; the plain picture where there is nothing to draw.
 */
export async function drawAnswer(picture: Picture, answer: Answer): Promise<Uint8Array> {
  switch (answer.task) {
    case 'classification':
      return encodeOverlay(picture, labelList(picture, answer.labels))
    case 'detection':
    case 'face-detection':
      return encodeOverlay(picture, boxDrawing(picture, answer.boxes))
    case 'segmentation': {
      const tinted = tint(picture, answer.mask)
      const legend = answer.classes.filter(({ index }) => index > 0).slice(0, 8)
      return encodeOverlay(
        tinted,
        labelList(
          picture,
          legend.map(({ label, index, share }) => ({ label, index, score: share })),
        ),
      )
    }
    case 'super-resolution':
      return encodePng(answer.picture)
    case 'generic':
      return encodePng(picture)
  }
}

const fontSize = ({ width, height }: Picture): number => Math.max(10, Math.round(Math.min(width, height) / 28))

const svg = ({ width, height }: Picture, body: string): string =>
  `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif">${body}</svg>`

/** Text on a bar of its class's colour, its top left at (x, y), or as far to the left as it takes to be all in the picture. */
function tag(within: Picture, x: number, y: number, size: number, index: number, text: string): string {
  // the width of a letter of common sans-serif fonts is a little over half its size
  const width = Math.round(text.length * size * 0.62 + size / 2)
  const left = Math.max(0, Math.min(Math.round(x), within.width - width))
  const [top, height] = [Math.round(y), Math.round(size * 1.3)]
  return (
    `<rect x="${left}" y="${top}" width="${width}" height="${height}" fill="${colourOf(index)}" opacity="0.85"/>` +
    `<text x="${left + size / 4}" y="${top + size}" font-size="${size}" fill="${inkOn(colourOf(index))}">${escapeXml(text)}</text>`
  )
}

const percent = (score: number): string => `${(100 * score).toFixed(score < 0.1 ? 1 : 0)} %`

function labelList(picture: Picture, labels: readonly { label: string; index: number; score: number }[]): string {
  const size = fontSize(picture)
  const rows = labels.map(({ label, index, score }, i) =>
    tag(picture, size / 2, size / 2 + i * size * 1.4, size, index, `${label.split(',')[0]} ${percent(score)}`),
  )
  return svg(picture, rows.join(''))
}

function boxDrawing(picture: Picture, boxes: readonly Box[]): string {
  const size = fontSize(picture)
  const stroke = Math.max(2, Math.round(size / 6))
  // worst first, so that the best are on top
  const drawn = [...boxes].reverse().map((box) => {
    const { xMin, yMin, xMax, yMax, index, label, score, landmarks = [] } = box
    const points = landmarks.flatMap((x, i) => (i % 2 === 0 ? [[x, landmarks[i + 1]!] as const] : []))
    const dots = points.map(([x, y]) => `<circle cx="${x}" cy="${y}" r="${stroke}" fill="${colourOf(index + 1)}"/>`)
    const frame = `<rect x="${xMin}" y="${yMin}" width="${xMax - xMin}" height="${yMax - yMin}" fill="none" stroke="${colourOf(index)}" stroke-width="${stroke}"/>`
    return (
      frame +
      dots.join('') +
      tag(picture, xMin, Math.max(0, yMin - size * 1.3), size, index, `${label} ${percent(score)}`)
    )
  })
  return svg(picture, drawn.join(''))
}

function tint(picture: Picture, mask: Uint8Array): Picture {
  const data = new Uint8Array(picture.data)
  const palette = colours.map((colour) => [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16)))
  for (let i = 0; i < mask.length; i++) {
    const index = mask[i]!
    if (index === 0) continue
    const colour = palette[index % palette.length]!
    for (let c = 0; c < 3; c++) {
      data[3 * i + c] = Math.round(data[3 * i + c]! * (1 - MASK_OPACITY) + colour[c]! * MASK_OPACITY)
    }
  }
  return { ...picture, data }
}

/** Black or white, whichever can be read on a colour. */
function inkOn(colour: string): string {
  const [r, g, b] = [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16)) as [number, number, number]
  return 0.299 * r + 0.587 * g + 0.114 * b > 140 ? '#000' : '#fff'
}

/** Labels come from files and graphs: characters that mean something in XML, or are not allowed there, must not pass. */
function escapeXml(text: string): string {
  const names: Readonly<Record<string, string>> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
    "'": '&apos;',
  }
  return text.replace(/[\p{Cc}\p{Cs}\uFFFE\uFFFF]/gu, '').replace(/[&<>"']/g, (character) => names[character]!)
}

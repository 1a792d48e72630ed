import { background, Dice, lighting, photograph, type Raster, rasterise } from './scene.ts'
import { type Box, paintOf, placeSign, signClasses } from './signs.ts'

export const SCENE_SIZE = 128

/** What a detector tells apart: by form and colour, not by what is written on the sign. */
export const groups = ['information', 'mandatory', 'prohibition', 'right-of-way', 'warning'] as const
export type Group = (typeof groups)[number]

/** The kind of a sign; `none` has none. */
export function groupOf(label: string): Group | undefined {
  if (label === 'none') return undefined
  if (['parking', 'pedestrian-crossing'].includes(label)) return 'information'
  if (['priority', 'stop', 'yield'].includes(label)) return 'right-of-way'
  if (label.startsWith('speed') || label.startsWith('no-')) return 'prohibition'
  return ['bend-left', 'bend-right', 'children', 'danger'].includes(label) ? 'warning' : 'mandatory'
}

export interface Scene {
  readonly picture: Raster
  readonly signs: readonly { readonly group: Group; readonly box: Box }[]
}

/**
 * A picture with up to three signs of 14 to 58 pixels that do not cover one another.
 *
 * @param seed decides everything
 */
export async function drawScene(seed: number): Promise<Scene> {
  const dice = new Dice(seed)
  const parts = [background(dice, SCENE_SIZE)]
  const signs: Scene['signs'][number][] = []
  const wanted = dice.chance(0.1) ? 0 : 1 + Math.floor(dice.next() * 3)
  for (let tries = 0; signs.length < wanted && tries < 12; tries++) {
    const label = dice.pick(signClasses)
    const group = groupOf(label)
    if (!group) continue
    const size = 14 + 44 * dice.next() ** 1.5
    const low = Math.min(size / 2, 20)
    const [x, y] = [dice.between(low, SCENE_SIZE - size / 2), dice.between(low, SCENE_SIZE - size / 2)]
    const { svg, box } = placeSign(dice, label, paintOf(dice), x, y, size / 100)
    const inside = box.xMin >= 0 && box.yMin >= 0 && box.xMax <= SCENE_SIZE && box.yMax <= SCENE_SIZE
    if (!inside || signs.some((other) => overlap(other.box, box))) continue
    signs.push({ group, box })
    parts.push(svg)
  }
  parts.push(lighting(dice, SCENE_SIZE))
  const picture = await photograph(dice, await rasterise(parts.join(''), SCENE_SIZE, SCENE_SIZE))
  return { picture, signs }
}

// A margin, because the post of one sign may run through the next.
const overlap = (a: Box, b: Box): boolean =>
  a.xMin < b.xMax + 4 && b.xMin < a.xMax + 4 && a.yMin < b.yMax + 4 && b.yMin < a.yMax + 4

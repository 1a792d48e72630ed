import { openCompiled, type PortFact, quickest, type Session } from '../engine/index.ts'
import type { BlockedBorders } from './blocked-layout.ts'
import { feedsOf } from './compile-unit.ts'
import { type Layout, PLAIN } from './layout.ts'

/** Blocked is better nearly everywhere: a border stays plain only where the blocks at it lose more than noise. */
const NOISE = 1.03

/**
 * A value stays plain where the blocks on both of its sides, together, are slower when it is blocked.
 *
 * @param times by block, milliseconds with plain and with blocked borders; absent where it could not be measured
 */
export function chooseLayout(
  values: Layout,
  blocks: readonly { readonly borders: BlockedBorders; readonly times?: readonly [plain: number, blocked: number] }[],
): Layout {
  const isWorthIt = (value: string) => {
    const sides = blocks.filter(({ borders }) => borders.inputs.has(value) || borders.outputs.has(value))
    const total = (of: 0 | 1) => sides.reduce((sum, { times }) => sum + (times?.[of] ?? Number.NaN), 0)
    return total(1) <= NOISE * total(0)
  }
  return new Map([...values].filter(([value]) => isWorthIt(value)))
}

/**
 * Which values are better blocked here: each original block is run with plain and with blocked borders.
 *
 * @param compile gives the path of a block that was compiled with such borders
 */
export async function measureLayout<
  B extends { readonly borders: BlockedBorders; readonly ports: readonly PortFact[] },
>(
  values: Layout,
  blocks: readonly B[],
  compile: (block: B, borders: BlockedBorders) => Promise<string>,
): Promise<Layout> {
  const plain: BlockedBorders = { inputs: PLAIN, outputs: PLAIN }
  const measured: { borders: BlockedBorders; times?: readonly [number, number] }[] = []
  for (const block of blocks) {
    const feeds = feedsOf(block.ports)
    const sessions: Session[] = []
    try {
      for (const borders of [plain, block.borders]) sessions.push(await openCompiled(await compile(block, borders)))
      const [before, after] = feeds ? quickest(sessions, feeds) : []
      const known = before !== undefined && after !== undefined
      measured.push({ borders: block.borders, ...(known ? { times: [before, after] as const } : {}) })
    } finally {
      for (const session of sessions) await session.release()
    }
  }
  return chooseLayout(values, measured)
}

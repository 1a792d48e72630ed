import { descendantId, type ModelId, ORIGINAL, type Progress } from '../base/index.ts'
import type { KnownDescendant, Recipe } from '../blocks/index.ts'
import { macs, weightBytes, writeModel } from '../onnx/index.ts'
import type { Skipped } from '../tasks/index.ts'
import type { Dropped, Journal, ManifestBlock, ManifestDescendant, Zoo } from '../zoo/index.ts'
import type { Crew } from './crew.ts'
import type { CrewPart } from './crew-messages.ts'
import type { PreparedModel } from './prepare.ts'

/** What the steps of one build share. */
export interface BuildState {
  readonly zoo: Zoo
  readonly id: ModelId
  readonly prepared: PreparedModel
  readonly journal: Journal
  readonly crew: Crew
  readonly progress: Progress
  readonly skipped: Map<string, Skipped>
  /** whether the time limit is short: what is measured is then measured less often */
  readonly hurried: boolean
  resumed: number
}

export interface MadeBlocks {
  readonly blocks: readonly ManifestBlock[]
  readonly dropped: readonly Dropped[]
  readonly outputErrors: ReadonlyMap<string, number>
}

type MadeRecord =
  | { readonly descendant: ManifestDescendant; readonly outputError: number; readonly latencyShare: number }
  | { readonly why: string }

/** Makes the descendants of every block, several blocks at a time, and writes each as it comes. */
export async function makeAll(
  state: BuildState,
  recipes: readonly Recipe[],
  until: number | undefined,
): Promise<MadeBlocks> {
  const { zoo, id, prepared, journal, crew, progress } = state
  progress.step('make descendants', prepared.blocks.length)
  const borders = await crew.run({ kind: 'ranges' }, (part) => noteSkipped(state, part))
  const outputErrors = new Map<string, number>()
  const dropped: Dropped[] = []
  const blocks: ManifestBlock[] = []
  await Promise.all(
    heaviestFirst(prepared.blocks).map(async (index): Promise<void> => {
      const block = prepared.blocks[index]!
      const original = await zoo.writeBlock(id, block.id, ORIGINAL, writeModel(block.model))
      const descendants: ManifestDescendant[] = [
        {
          id: ORIGINAL,
          kind: 'original',
          parameters: {},
          file: original,
          weightBytes: weightBytes(block.model),
          macs: macs(block.model, block.nominal),
        },
      ]
      const take = (name: string, record: MadeRecord) => {
        if ('why' in record) {
          dropped.push({ block: block.id, descendant: descendantId(name), why: record.why })
          return
        }
        descendants.push(record.descendant)
        outputErrors.set(`${block.id}/${name}`, record.outputError)
      }
      const known = (await journal.get<readonly string[]>(`names/${block.id}`)) ?? []
      const names: string[] = []
      const tried: KnownDescendant[] = []
      for (const name of known) {
        const record = await journal.get<MadeRecord>(`made/${block.id}/${name}`)
        if (!record) continue
        take(name, record)
        tried.push(knownAs(name, record))
        names.push(name)
        state.resumed++
      }
      const finished = await journal.get<true>(`finished/${block.id}`)
      if (recipes.length > 0 && !(finished && names.length === known.length)) {
        let last: Promise<void> = Promise.resolve()
        let late = false
        await crew.run({ kind: 'descend', block: index, recipes, borders, known: tried, until }, (part) => {
          if (part.kind !== 'made' && part.kind !== 'dropped') return noteSkipped(state, part)
          if (names.includes(part.id)) return
          last = last.then(async () => {
            const record = await recordOf(state, index, part)
            take(part.id, record)
            // What only time kept from being made is tried again by the next build.
            if ('why' in record && record.why.includes('no time')) {
              late = true
              return
            }
            names.push(part.id)
            const files = 'descendant' in record ? [record.descendant.file] : []
            await journal.put(`made/${block.id}/${part.id}`, record, files)
            await journal.put(`names/${block.id}`, names)
            progress.note(`${block.id} ${part.id}${'why' in record ? `: dropped, ${record.why}` : ''}`)
          })
          // Awaited below; until then a failed write must not count as one that nobody looks at.
          last.catch(() => {})
        })
        await last
        if (!late) await journal.put(`finished/${block.id}`, true)
      }
      progress.advance()
      blocks[index] = { id: block.id, inputs: block.inputs, outputs: block.outputs, descendants }
    }),
  )
  return { blocks, dropped, outputErrors }
}

function knownAs(id: string, record: MadeRecord): KnownDescendant {
  if ('why' in record) return { id }
  const { descendant, outputError, latencyShare } = record
  const { parameters, weightBytes: bytes } = descendant
  return { id, parameters, offer: { latencyShare, weightBytes: bytes, outputError } }
}

/** Numbers of blocks: wide ones take longest, and no core should be left alone with one at the end. */
const heaviestFirst = (blocks: PreparedModel['blocks']): number[] => {
  const weights = blocks.map(({ model }) => weightBytes(model))
  return [...blocks.keys()].sort((a, b) => weights[b]! - weights[a]!)
}

async function recordOf(
  { zoo, id, prepared }: BuildState,
  index: number,
  part: Extract<CrewPart, { kind: 'made' | 'dropped' }>,
): Promise<MadeRecord> {
  if (part.kind === 'dropped') return { why: part.why }
  const descendant = descendantId(part.id)
  const file = await zoo.writeBlock(id, prepared.blocks[index]!.id, descendant, part.bytes)
  const parameters =
    part.integerLayers > 0 ? { ...part.parameters, integerLayers: part.integerLayers } : part.parameters
  return {
    descendant: {
      id: descendant,
      kind: part.descendantKind,
      parameters,
      file,
      weightBytes: part.weightBytes,
      macs: part.macs,
    },
    outputError: part.outputError,
    latencyShare: part.latencyShare,
  }
}

/** Says once that a picture was left out. */
export function noteSkipped(state: BuildState, part: CrewPart): void {
  if (part.kind !== 'skipped' || state.skipped.has(part.skipped.path)) return
  state.skipped.set(part.skipped.path, part.skipped)
  state.progress.note(`left out ${part.skipped.path}: ${part.skipped.why}`)
}

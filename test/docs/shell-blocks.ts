import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'

export interface ShellBlock {
  /** `docs/tutorial.md:12` */
  readonly at: string
  readonly text: string
}

/** What a document shows as shell commands: the fences called `sh` and `bash`. */
export async function shellBlocks(path: string): Promise<ShellBlock[]> {
  const text = await readFile(fileURLToPath(new URL(`../../${path}`, import.meta.url)), 'utf8')
  return [...text.matchAll(/^```(?:sh|bash)\n([\s\S]*?)^```$/gm)].map((found) => ({
    at: `${path}:${text.slice(0, found.index).split('\n').length}`,
    text: found[1]!,
  }))
}

/** Each command of a block by itself; here-documents and continued lines stay whole. */
export function commandsOf({ at, text }: ShellBlock): ShellBlock[] {
  const commands: ShellBlock[] = []
  let open: string[] = []
  let ends: string | undefined
  for (const line of text.split('\n')) {
    if (open.length === 0 && /^\s*(#.*)?$/.test(line)) continue
    open.push(line)
    ends ??= /<<'?(\w+)'?/.exec(line)?.[1]
    const isWhole = ends
      ? line === ends
      : !/[\\|]$/.test(line) && (open.join('\n').match(/(?<!\\)'/g) ?? []).length % 2 === 0
    if (!isWhole) continue
    commands.push({ at, text: open.join('\n') })
    open = []
    ends = undefined
  }
  if (open.length > 0) throw new Error(`${at}: a command does not end: ${open[0]}`)
  return commands
}

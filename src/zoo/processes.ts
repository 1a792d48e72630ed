import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'

/** A process, told apart from a later one that was given the same number. */
export interface ProcessMark {
  readonly host: string
  readonly pid: number
  /** the kernel's start time, where the system tells it */
  readonly started?: string | undefined
}

export const thisProcess = (): ProcessMark => ({ host: hostname(), pid: process.pid, started: startOf(process.pid) })

/** Whether a process of this host lives; for another host the answer is unknown. */
export function isAlive(mark: ProcessMark): boolean | undefined {
  if (mark.host !== hostname()) return undefined
  if (!pidExists(mark.pid)) return false
  const started = startOf(mark.pid)
  return !started || !mark.started || started === mark.started
}

export function pidExists(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** Clock ticks since boot at which a process started: field 22 of /proc/<pid>/stat, after the name in brackets. */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
  } catch {
    return undefined
  }
}

/** A block of a chain whose blocks share a window of memory. */
export interface WindowStep {
  /** what it takes of the window while it runs: where it is mapped for the run, with its file */
  readonly memoryBytes: number
  /** bytes of its file, where that is mapped anew for each run; 0 where it stays loaded */
  readonly passingBytes: number
}

/** So much of the file of one step, from its beginning. */
export interface Ahead {
  readonly step: number
  readonly bytes: number
}

/**
 * What may be in memory of the files that come next while each block runs, in the order in which they come, round and round: as much as
 * leaves the window room for every block that runs before it is used.
 *
 * @returns one list for each block, and at the end one for the time between two pictures
 *
 *     readAhead([{ memoryBytes: 4, passingBytes: 3 }, { memoryBytes: 2, passingBytes: 2 }], 5)
 *     // → [[{ step: 1, bytes: 1 }], [{ step: 0, bytes: 3 }], [{ step: 0, bytes: 3 }, { step: 1, bytes: 1 }]]
 */
export function readAhead(steps: readonly WindowStep[], windowBytes: number): Ahead[][] {
  const after = (first: number, count: number, free: number): Ahead[] => {
    const coming = Array.from({ length: count }, (_, i) => (first + i) % steps.length)
    let room = free
    let used = 0
    for (const step of coming) {
      const { memoryBytes, passingBytes } = steps[step]!
      // What a block has used by the end of its run is no longer ahead.
      used += passingBytes
      room = Math.min(room, windowBytes - memoryBytes + used)
    }
    return coming.flatMap((step) => {
      const bytes = Math.min(room, steps[step]!.passingBytes)
      room -= bytes
      return bytes > 0 ? [{ step, bytes }] : []
    })
  }
  return [
    ...steps.map(({ memoryBytes }, i) => after(i + 1, steps.length - 1, windowBytes - memoryBytes)),
    after(0, steps.length, windowBytes),
  ]
}

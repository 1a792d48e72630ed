const BYTES = 8e6
const ROUNDS = 5
let known: number | undefined

/**
 * How fast memory that the system has just given can be written, in bytes per millisecond: each page is cleared and mapped when it is first
 * touched. Measured once in a process; of some pieces the quickest, because the rest is what else the machine did.
 */
export function freshMemorySpeed(): number {
  known ??= Math.max(...Array.from({ length: ROUNDS }, speedOfPiece))
  return known
}

function speedOfPiece(): number {
  const started = performance.now()
  const memory = new Float64Array(BYTES / 8)
  for (let at = 0; at < memory.length; at += 128) memory[at] = 1
  return BYTES / Math.max(performance.now() - started, 1e-3)
}

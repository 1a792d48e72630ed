/**
 * Every assignment, those that overfill least first; cores of equal room that are still empty count as one.
 *
 * @param lightest what each model loads at least; assignments that cannot hold even that are left out
 */
export function everyAssignment(
  loads: readonly number[],
  lightest: readonly number[],
  room: readonly number[],
): number[][] {
  const found: { readonly overfill: number; readonly cores: number[] }[] = []
  const left = [...room]
  const used = room.map(() => 0)
  const cores = loads.map(() => 0)
  const overfill = () =>
    room.reduce((sum, limit, core) => {
      const load = loads.reduce((total, value, n) => (cores[n] === core ? total + value : total), 0)
      return sum + square(load - limit)
    }, 0)
  const place = (m: number): void => {
    if (m === loads.length) {
      found.push({ overfill: overfill(), cores: [...cores] })
      return
    }
    const empty = new Set<number>()
    for (let core = 0; core < room.length; core++) {
      if (used[core] === 0) {
        if (empty.has(room[core]!)) continue
        empty.add(room[core]!)
      }
      if (lightest[m]! > left[core]!) continue
      left[core]! -= lightest[m]!
      used[core]!++
      cores[m] = core
      place(m + 1)
      used[core]!--
      left[core]! += lightest[m]!
    }
  }
  place(0)
  return found.sort((x, y) => x.overfill - y.overfill).map((one) => one.cores)
}

const square = (value: number): number => (value > 0 ? value * value : 0)

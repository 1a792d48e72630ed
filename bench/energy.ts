import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Energy as the system itself reports it; nothing is reckoned from times or from what a processor is said to draw. */
export interface EnergyMeter {
  readonly source: 'RAPL' | 'battery'
  /** joules of the whole machine since the meter was opened; to be asked at least once a minute, before a counter begins again */
  joules(): number
}

/**
 * Opens the meter of this machine: the counters of its processors (RAPL), else a battery that empties.
 *
 * @param root where `/sys` is
 * @returns nothing where the system reports no energy, or not to us
 */
export function openEnergyMeter(root = '/'): EnergyMeter | undefined {
  return rapl(root) ?? battery(root)
}

function rapl(root: string): EnergyMeter | undefined {
  const zones = join(root, 'sys/class/powercap')
  // Whole packages only: `intel-rapl:0:0` is a part of `intel-rapl:0`.
  const packages = namesIn(zones).filter((name) => /^[a-z]+-rapl:\d+$/.test(name))
  const counters = packages.flatMap((name) => {
    const [path, range] = [join(zones, name, 'energy_uj'), numberIn(join(zones, name, 'max_energy_range_uj'))]
    const before = numberIn(path)
    return before === undefined || range === undefined ? [] : [{ path, range, before }]
  })
  if (counters.length === 0) return undefined
  let microjoules = 0
  return {
    source: 'RAPL',
    joules() {
      for (const counter of counters) {
        const now = numberIn(counter.path) ?? counter.before
        microjoules += now >= counter.before ? now - counter.before : now + counter.range - counter.before
        counter.before = now
      }
      return microjoules / 1e6
    },
  }
}

function battery(root: string): EnergyMeter | undefined {
  const supplies = join(root, 'sys/class/power_supply')
  for (const name of namesIn(supplies)) {
    const folder = join(supplies, name)
    if (textIn(join(folder, 'status')) !== 'Discharging') continue
    const left = () => joulesLeft(folder)
    const before = left()
    if (before === undefined) continue
    return { source: 'battery', joules: () => before - (left() ?? before) }
  }
  return undefined
}

/** Microwatt-hours, or microampere-hours at the voltage of the moment. */
function joulesLeft(folder: string): number | undefined {
  const energy = numberIn(join(folder, 'energy_now'))
  if (energy !== undefined) return energy * 3.6e-3
  const [charge, voltage] = ['charge_now', 'voltage_now'].map((name) => numberIn(join(folder, name)))
  return charge === undefined || voltage === undefined ? undefined : charge * 3.6e-3 * (voltage / 1e6)
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort()
  } catch {
    return []
  }
}

function textIn(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return undefined
  }
}

function numberIn(path: string): number | undefined {
  const text = textIn(path)
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined
}

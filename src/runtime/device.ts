import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** What the system says at one moment. What it does not say is absent. */
export interface Readings {
  /** memory for all models together; a trace says it outright, on a device it follows from what is available */
  readonly memoryForModelsBytes?: number | undefined
  /** memory that can still be had, under the limit of the control group where there is one */
  readonly memoryAvailableBytes?: number | undefined
  /** all memory that there is, under the same limit */
  readonly memoryTotalBytes?: number | undefined
  /** cores that the control group may use, or that there are */
  readonly cores?: number | undefined
  /** share of the last ten seconds in which some task waited for memory, 0…1 */
  readonly memoryPressure?: number | undefined
  readonly cpuPressure?: number | undefined
  /** share of CPU time that the hypervisor gave to others, 0…1 */
  readonly steal?: number | undefined
  readonly temperatureC?: number | undefined
  /** 0…1, only while it is discharging */
  readonly battery?: number | undefined
}

/** Reads this machine again and again; `steal` is over the time between two readings. */
export class DeviceReader {
  readonly #root: string
  #before: { total: number; steal: number } | undefined

  /** @param root where `/proc` and `/sys` are */
  constructor(root = '/') {
    this.#root = root
  }

  read(): Readings {
    const system = this.#memory()
    const group = this.#controlGroup()
    const least = (...values: (number | undefined)[]) => {
      const known = values.filter((value) => value !== undefined)
      return known.length > 0 ? Math.min(...known) : undefined
    }
    return {
      memoryAvailableBytes: least(system.available, group.memoryAvailable),
      memoryTotalBytes: least(system.total, group.memoryLimit),
      cores: least(this.#processors(), group.cores),
      memoryPressure: this.#pressure('memory'),
      cpuPressure: this.#pressure('cpu'),
      steal: this.#steal(),
      temperatureC: this.#temperature(),
      battery: this.#battery(),
    }
  }

  #text(path: string): string | undefined {
    try {
      return readFileSync(join(this.#root, path), 'utf8')
    } catch {
      return undefined
    }
  }

  #number(path: string): number | undefined {
    const text = this.#text(path)?.trim()
    return text && /^-?\d+$/.test(text) ? Number(text) : undefined
  }

  #names(path: string): string[] {
    try {
      return readdirSync(join(this.#root, path))
    } catch {
      return []
    }
  }

  #memory(): { total?: number | undefined; available?: number | undefined } {
    const text = this.#text('proc/meminfo') ?? ''
    const kB = (name: string) => {
      const found = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1]
      return found === undefined ? undefined : Number(found) * 1024
    }
    return { total: kB('MemTotal'), available: kB('MemAvailable') }
  }

  /** The strictest of the limits on the way from our group to the root (version 2). */
  #controlGroup() {
    const own = /^0::(\/.*)$/m.exec(this.#text('proc/self/cgroup') ?? '')?.[1] ?? '/'
    const found: { memoryLimit?: number; memoryAvailable?: number; cores?: number } = {}
    for (let path = own; ; path = path.slice(0, path.lastIndexOf('/'))) {
      const folder = `sys/fs/cgroup${path === '/' ? '' : path}`
      const limit = this.#number(`${folder}/memory.max`)
      const current = this.#number(`${folder}/memory.current`)
      if (limit !== undefined && current !== undefined) {
        // Pages of files that nobody used lately are given back before anything else.
        const cached = Number(/^inactive_file (\d+)$/m.exec(this.#text(`${folder}/memory.stat`) ?? '')?.[1] ?? 0)
        found.memoryLimit = Math.min(found.memoryLimit ?? limit, limit)
        const available = Math.max(0, limit - current + cached)
        found.memoryAvailable = Math.min(found.memoryAvailable ?? available, available)
      }
      const quota = /^(\d+) (\d+)$/.exec(this.#text(`${folder}/cpu.max`)?.trim() ?? '')
      if (quota) found.cores = Math.min(found.cores ?? Number.POSITIVE_INFINITY, Number(quota[1]) / Number(quota[2]))
      if (path === '/' || path === '') return found
    }
  }

  #processors(): number | undefined {
    const lines = this.#text('proc/stat')?.match(/^cpu\d+ /gm)
    return lines?.length
  }

  #pressure(of: 'memory' | 'cpu'): number | undefined {
    const found = /^some avg10=([\d.]+)/m.exec(this.#text(`proc/pressure/${of}`) ?? '')?.[1]
    return found === undefined ? undefined : Number(found) / 100
  }

  #steal(): number | undefined {
    const counts = /^cpu\s+([\d ]+)$/m
      .exec(this.#text('proc/stat') ?? '')?.[1]
      ?.split(' ')
      .map(Number)
    if (!counts) return undefined
    // Guest time (after the eighth) is counted as user time already.
    const now = { total: counts.slice(0, 8).reduce((sum, count) => sum + count, 0), steal: counts[7] ?? 0 }
    const before = this.#before
    this.#before = now
    const passed = before ? now.total - before.total : 0
    return before && passed > 0 ? (now.steal - before.steal) / passed : undefined
  }

  #temperature(): number | undefined {
    const zones = this.#names('sys/class/thermal').filter((name) => name.startsWith('thermal_zone'))
    const degrees = zones.map((zone) => this.#number(`sys/class/thermal/${zone}/temp`)).filter((t) => t !== undefined)
    return degrees.length > 0 ? Math.max(...degrees) / 1000 : undefined
  }

  #battery(): number | undefined {
    for (const name of this.#names('sys/class/power_supply')) {
      const status = this.#text(`sys/class/power_supply/${name}/status`)?.trim()
      const percent = this.#number(`sys/class/power_supply/${name}/capacity`)
      if (status === 'Discharging' && percent !== undefined) return percent / 100
    }
    return undefined
  }
}

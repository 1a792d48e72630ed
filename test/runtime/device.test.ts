import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { DeviceReader } from '../../src/runtime/device.ts'
import { readTrace, traceAt } from '../../src/runtime/trace.ts'

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'device-'))
})
afterEach(() => rmSync(root, { recursive: true }))

function files(content: Readonly<Record<string, string>>): void {
  for (const [path, text] of Object.entries(content)) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), text)
  }
}

describe('readings of a device', () => {
  it('are absent where the system says nothing', () => {
    expect(Object.values(new DeviceReader(root).read()).filter((value) => value !== undefined)).toEqual([])
  })

  it('take the strictest limit of the control groups above the process', () => {
    files({
      'proc/meminfo': 'MemTotal:       8000000 kB\nMemFree:  1 kB\nMemAvailable:   4000000 kB\n',
      'proc/self/cgroup': '0::/camera/app\n',
      'proc/stat': 'cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 1\ncpu1 1 1\ncpu2 1 1\ncpu3 1 1\n',
      'sys/fs/cgroup/camera/app/memory.max': 'max\n',
      'sys/fs/cgroup/camera/app/memory.current': '50000000\n',
      'sys/fs/cgroup/camera/app/cpu.max': '150000 100000\n',
      'sys/fs/cgroup/camera/memory.max': '200000000\n',
      'sys/fs/cgroup/camera/memory.current': '170000000\n',
      'sys/fs/cgroup/camera/memory.stat': 'anon 1\ninactive_file 20000000\n',
    })
    expect(new DeviceReader(root).read()).toMatchObject({
      memoryAvailableBytes: 50_000_000,
      memoryTotalBytes: 200_000_000,
      cores: 1.5,
    })
  })

  it('cover pressure, steal between two readings, heat and a battery that empties', () => {
    const stat = (user: number, steal: number) => ({ 'proc/stat': `cpu  ${user} 0 0 0 0 0 0 ${steal} 0 0\n` })
    files({
      'proc/pressure/memory': 'some avg10=12.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=1.00\n',
      'sys/class/thermal/thermal_zone0/temp': '41000\n',
      'sys/class/thermal/thermal_zone1/temp': '88000\n',
      'sys/class/power_supply/AC/online': '0\n',
      'sys/class/power_supply/BAT0/status': 'Discharging\n',
      'sys/class/power_supply/BAT0/capacity': '12\n',
      ...stat(100, 0),
    })
    const reader = new DeviceReader(root)
    expect(reader.read()).toMatchObject({ memoryPressure: 0.125, temperatureC: 88, battery: 0.12, steal: undefined })
    files(stat(175, 25))
    expect(reader.read().steal).toBe(0.25)
  })
})

describe('a trace', () => {
  it('holds each entry until the next', async () => {
    const path = join(root, 'trace.json')
    writeFileSync(path, '[{"atMs": 5000, "memoryForModelsBytes": 16e6}, {"atMs": 0, "memoryForModelsBytes": 64e6}]')
    const trace = await readTrace(path)
    expect([0, 4999, 5000, 90_000].map((ms) => traceAt(trace, ms).memoryForModelsBytes)).toEqual([
      64e6, 64e6, 16e6, 16e6,
    ])
  })

  it('that is none is refused with what is wrong', async () => {
    const path = join(root, 'trace.json')
    writeFileSync(path, '[{"atMs": -1, "heat": 3}]')
    await expect(readTrace(path)).rejects.toMatchObject({ code: 'USAGE', message: expect.stringContaining('atMs') })
    await expect(readTrace(join(root, 'none.json'))).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })
})

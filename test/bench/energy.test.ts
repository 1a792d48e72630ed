import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { openEnergyMeter } from '../../bench/energy.ts'

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'energy-'))
})
afterEach(() => rmSync(root, { recursive: true }))

function files(below: string, content: Readonly<Record<string, string | number>>): void {
  for (const [path, text] of Object.entries(content)) {
    const to = join(root, below, path)
    mkdirSync(dirname(to), { recursive: true })
    writeFileSync(to, `${text}\n`)
  }
}

it('a machine that reports no energy has no meter', () => {
  expect(openEnergyMeter(root)).toBeUndefined()
  files('sys/class/power_supply/BAT0', { status: 'Charging', energy_now: 40_000_000 })
  expect(openEnergyMeter(root)).toBeUndefined()
})

it('RAPL: all packages together, their parts not counted twice, counters that begin again', () => {
  files('sys/class/powercap', {
    'intel-rapl:0/energy_uj': 1_000_000,
    'intel-rapl:0/max_energy_range_uj': 10_000_000,
    'intel-rapl:0:0/energy_uj': 0,
    'intel-rapl:0:0/max_energy_range_uj': 10_000_000,
    'intel-rapl:1/energy_uj': 9_000_000,
    'intel-rapl:1/max_energy_range_uj': 10_000_000,
  })
  const meter = openEnergyMeter(root)!
  expect([meter.source, meter.joules()]).toEqual(['RAPL', 0])
  files('sys/class/powercap', { 'intel-rapl:0/energy_uj': 3_500_000, 'intel-rapl:0:0/energy_uj': 2_000_000 })
  expect(meter.joules()).toBeCloseTo(2.5)
  files('sys/class/powercap', { 'intel-rapl:1/energy_uj': 500_000 })
  expect(meter.joules()).toBeCloseTo(4)
  expect(meter.joules()).toBeCloseTo(4)
})

it('a battery that empties: by its energy, or by its charge and voltage', () => {
  files('sys/class/power_supply/AC', { online: 0 })
  files('sys/class/power_supply/BAT0', { status: 'Discharging', energy_now: 40_000_000 })
  const meter = openEnergyMeter(root)!
  files('sys/class/power_supply/BAT0', { energy_now: 39_999_000 })
  expect(meter.source).toBe('battery')
  expect(meter.joules()).toBeCloseTo(3.6)
  rmSync(join(root, 'sys/class/power_supply/BAT0/energy_now'))
  files('sys/class/power_supply/BAT0', { charge_now: 3_000_000, voltage_now: 12_000_000 })
  const other = openEnergyMeter(root)!
  files('sys/class/power_supply/BAT0', { charge_now: 2_999_000 })
  expect(other.joules()).toBeCloseTo(43.2)
})

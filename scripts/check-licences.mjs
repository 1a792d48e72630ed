// Lists the licences of everything that is installed for production, and refuses what does not go with GPL-3.0-or-later, what
// the lock file does not pin by a checksum, what would run a script at installation without being allowed to, and an installation that
// is not what the lock file says (`npm ls`).
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** Licences whose terms the GPL in version 3 can keep: permissive ones, and the GNU ones with "or later". */
const FITTING = [
  '0BSD',
  'Apache-2.0',
  'BlueOak-1.0.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'CC0-1.0',
  'GPL-3.0',
  'GPL-3.0-only',
  'GPL-3.0-or-later',
  'ISC',
  'LGPL-3.0-or-later',
  'MIT',
  'MIT-0',
  'Python-2.0',
  'Unlicense',
  'Zlib',
]

/** `(MIT OR CC0-1.0)` fits when one fits, `Apache-2.0 AND MIT` when all do. */
function fits(expression) {
  const text = expression.replace(/[()]/g, ' ').trim()
  if (text.includes(' OR ')) return text.split(' OR ').some((each) => fits(each))
  return text.split(' AND ').every((each) => FITTING.includes(each.trim()))
}

const root = fileURLToPath(new URL('..', import.meta.url))
const lock = JSON.parse(readFileSync(`${root}package-lock.json`, 'utf8'))
const allowed = JSON.parse(readFileSync(`${root}package.json`, 'utf8')).allowScripts ?? {}
const faults = []
const byLicence = new Map()

for (const [path, entry] of Object.entries(lock.packages)) {
  const isOurs = path === '' || entry.link || entry.resolved?.startsWith('file:')
  if (isOurs || !path.includes('node_modules/')) continue
  const name = path.split('node_modules/').at(-1)
  if (!entry.integrity && !entry.inBundle) faults.push(`${name} is not pinned by a checksum in package-lock.json`)
  if (entry.hasInstallScript && !(name in allowed))
    faults.push(`${name} has an install script that package.json does not speak of`)
  if (entry.dev) continue
  const licence = entry.license ?? licenceOf(path)
  if (!licence) faults.push(`${name} names no licence`)
  else if (!fits(licence)) faults.push(`${name} is under ${licence}, which is not known to go with GPL-3.0-or-later`)
  byLicence.set(licence, [...(byLicence.get(licence) ?? []), `${name} ${entry.version}`])
}

function licenceOf(path) {
  const file = `${root}${path}/package.json`
  if (!existsSync(file)) return undefined
  const { license, licenses } = JSON.parse(readFileSync(file, 'utf8'))
  // how it was written before there was one field for it
  return license ?? licenses?.map(({ type }) => type).join(' OR ')
}

const installed = spawnSync('npm', ['ls', '--all', '--json', '--loglevel=error'], {
  cwd: root,
  encoding: 'utf8',
  maxBuffer: 1e8,
})
if (installed.status !== 0)
  faults.push(...(JSON.parse(installed.stdout || '{}').problems ?? [`npm ls failed: ${installed.stderr}`]))

if (process.argv.includes('--list')) {
  for (const [licence, names] of [...byLicence].sort())
    console.log(`${licence}: ${[...new Set(names)].sort().join(', ')}`)
}
for (const fault of faults) console.error(fault)
process.exitCode = faults.length > 0 ? 1 : 0

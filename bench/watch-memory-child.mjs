// Looks every few milliseconds at what memory another process holds: everything that no file backs, and the pages of mapped `.ort` files
// that it has in memory. Those of programs and libraries are left out, they are shared with whatever else runs.
import { readFileSync } from 'node:fs'

const EVERY_MS = 10
const smaps = `/proc/${process.argv[2]}/smaps`
let peak = { anonymousBytes: 0, mappedBytes: 0 }

function look() {
  let [anonymous, mapped, isModel] = [0, 0, false]
  for (const line of readFileSync(smaps, 'utf8').split('\n')) {
    const [word, value] = line.split(/\s+/)
    if (word === 'Anonymous:') {
      anonymous += Number(value)
      if (isModel) mapped -= Number(value)
    } else if (word === 'Rss:') {
      if (isModel) mapped += Number(value)
    } else if (!word.endsWith(':')) isModel = /\.ort( \(deleted\))?$/.test(line)
  }
  const now = { anonymousBytes: anonymous * 1024, mappedBytes: mapped * 1024 }
  if (now.anonymousBytes + now.mappedBytes > peak.anonymousBytes + peak.mappedBytes) peak = now
}

setInterval(look, EVERY_MS)
process.on('message', () => {
  look()
  process.send(peak)
  peak = { anonymousBytes: 0, mappedBytes: 0 }
})
process.on('disconnect', () => process.exit())

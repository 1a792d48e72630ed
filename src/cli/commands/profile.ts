import type { Command } from 'commander'
import { formatDuration } from '../../base/index.ts'
import { openProfiles, thisDevice } from '../../profiles/index.ts'
import { openZoo } from '../../zoo/index.ts'
import { withExamples, withJson, withZoo } from '../options.ts'
import { profileModel } from '../profile-model.ts'
import type { Shell } from '../shell.ts'
import { builtManifest } from '../subject.ts'
import { figure, tableOf } from '../table.ts'

/** `blockscale profile` */
export function addProfile(program: Command, shell: Shell): void {
  const command = program
    .command('profile')
    .description('measure latency and memory on this device again, such as after a built zoo was copied to it')
    .argument('<model>', 'a built model')
    .action(async (name: string, options: { zoo: string; json?: true }) => {
      shell.whenInterrupted = 'what was measured before is as it was'
      const started = Date.now()
      const zoo = openZoo(options.zoo)
      const manifest = await builtManifest(zoo, name)
      const store = openProfiles(zoo.profilesPath)
      try {
        const { measurements, combinations, losses } = await profileModel(zoo, manifest, store, shell.progress)
        if (losses === 0) {
          shell.note(`what descendants lose is not known here: build ${manifest.model} again to plan with it`)
        }
        if (options.json) {
          return shell.json(
            measurements.map(
              ({ block, descendant, latencyP50Ms, latencyP95Ms, anonymousBytes, mappedBytes, loadMs }) => ({
                block,
                descendant,
                latencyP50Ms,
                latencyP95Ms,
                anonymousBytes,
                mappedBytes,
                loadMs,
              }),
            ),
          )
        }
        const rows = manifest.blocks.map(({ id }) => {
          const [original, ...others] = measurements.filter(({ block }) => block === id)
          const shares = others.map(
            (each) => `${each.descendant} ${Math.round((100 * each.latencyP50Ms) / original!.latencyP50Ms)} %`,
          )
          return [id, original!.latencyP50Ms, shares.join(', ')]
        })
        const width = Math.max(40, shell.columns - 30)
        const columns = [
          { name: 'block' },
          { name: 'original ms', right: true },
          { name: 'time against the original', width },
        ]
        shell.line(tableOf(columns, rows, shell.style))
        shell.line(
          `\n${measurements.length} descendants and ${combinations} combinations measured on ${thisDevice().cpu}`,
        )
        shell.line(
          `in ${formatDuration(Date.now() - started)}; the original takes ${figure(total(rows.map(([, ms]) => Number(ms))))} ms`,
        )
      } finally {
        store.close()
      }
    })
  withExamples(withJson(withZoo(command)), [['profile signs', 'measure it here']])
}

const total = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0)

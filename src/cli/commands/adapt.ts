import type { Command } from 'commander'
import { BlockscaleError } from '../../base/index.ts'
import { polishPlan } from '../../pipeline/index.ts'
import { openProfiles } from '../../profiles/index.ts'
import { type Choices, type Manifest, openZoo, type Zoo } from '../../zoo/index.ts'
import { withExamples, withJson, withZoo } from '../options.ts'
import type { Chosen } from '../plan-file.ts'
import { allPictures, inWords, isOriginal } from '../polishing.ts'
import type { Shell } from '../shell.ts'
import { builtManifest, chosenOf, withForm } from '../subject.ts'

interface AdaptFlags {
  readonly zoo: string
  readonly json?: true
  readonly images: string
  readonly plan?: string
  readonly choose?: string
}

/** `blockscale adapt` */
export function addAdapt(program: Command, shell: Shell): void {
  const command = program
    .command('adapt')
    .description(
      'solve the last layers of a plan again on recent pictures, without labels; kept only where it agrees better with the original on pictures held out',
    )
    .argument('<model>', 'a built model')
    .requiredOption('--images <dir>', 'recent pictures of what the model sees')
    .action(async (name: string, options: AdaptFlags) => {
      const zoo = openZoo(options.zoo)
      const manifest = await builtManifest(zoo, name)
      const { choices, size } = (await chosenOf(manifest, options)) ?? lastPlan(zoo, manifest)
      if (isOriginal(manifest, choices)) {
        throw new BlockscaleError(
          'USAGE',
          `${manifest.model} is meant as it came, and agrees with itself`,
          'name what is to be adapted with --plan FILE or --choose',
        )
      }
      const report = await polishPlan({
        zoo,
        manifest,
        choices,
        size,
        items: await allPictures(manifest, options.images),
        what: 'head',
        progress: shell.progress,
      })
      const { kept, before, after, ms, polish } = report
      if (options.json) return shell.json({ model: manifest.model, choices, kept, before, after, ms })
      shell.line(
        kept
          ? `${manifest.model}: ${inWords({ how: ['head'], heldOut: polish!.heldOut, before, after })}`
          : `${manifest.model}: left as it is, because nothing agreed better with the original on the pictures held out`,
      )
    })
  withExamples(withForm(withJson(withZoo(command))), [
    ['adapt signs --images frames', 'the plan that was last made live or verified'],
    ['adapt signs --images frames --plan plan.json', 'another'],
  ])
}

/** The plan that was last written down for a model: by a service that made it live, or by `plan --verify`. */
function lastPlan(zoo: Zoo, manifest: Manifest): Chosen {
  const store = openProfiles(zoo.profilesPath, { readOnly: true })
  try {
    const rows = store.lastChoices(manifest.model)
    const known =
      rows && manifest.blocks.every(({ id, descendants }) => descendants.some((d) => d.id === rows.choices[id]))
    if (rows && known) return { choices: rows.choices as Choices, size: rows.size }
  } finally {
    store.close()
  }
  throw new BlockscaleError(
    'USAGE',
    `no plan of ${manifest.model} is written down in ${zoo.dir}`,
    'name one with --plan FILE, or descendants with --choose',
  )
}

import type { Argument, Command, Option } from 'commander'

/** All commands as a page of Markdown, from the same descriptions that `--help` prints. */
export function commandReference(program: Command): string {
  const head = `# Commands

\`blockscale <command> [options]\`. \`blockscale help <command>\` prints what is written here.

- \`--json\` prints JSON on standard output and nothing else there; progress and notes go to standard error.
- \`--zoo DIR\` is the folder of built models; \`zoo\` unless given.
- Sizes are written \`64MB\`, \`64MiB\`, \`512kB\`; durations \`500ms\`, \`90s\`, \`10m\`.
- A model is named by its id, the folder of its \`model.json\`, or a bare \`.onnx\` file, which is known by its file name without the ending.
- Errors go to standard error as \`error: …\` with a \`hint: …\`; with \`--json\` as \`{"error":{"code","message","hint"}}\`. [errors.md](errors.md) lists them.

| exit code | means |
|---|---|
| 0 | done |
| 1 | failed |
| 2 | wrong use: an unknown command or option, a value that makes no sense |
| 3 | no plan fits; \`plan --json\` then prints which limit, and what it would take |
| 130 | interrupted; nothing is half-written, and the next build goes on from there |
`
  return [head, ...program.commands.map(section), SHAPES].join('\n')
}

const SHAPES = `## What --json prints

\`plan\`; where no plan fits, \`status\` is \`infeasible\` and \`infeasible\` says by how much:

\`\`\`jsonc
{ "status": "optimal",                       // feasible: the bound was not closed in time
  "objective": 0.0213, "bound": 0.0213, "gap": 0, "solveMs": 11,
  "models": [ { "model": "mobilenetv2", "inputSize": [224, 224],
      "choices": [ { "block": "b0", "descendant": "int8" } ],
      "predicted": { "quality": 0.71, "qualityLow": 0.70, "latencyMs": 3.1, "memoryBytes": 4100000 },
      "verified":  { "quality": 0.709, "latencyMs": 3.2, "memoryBytes": 4090000 } } ],   // with --verify
  "totals": { "memoryBytes": 4100000, "cores": 0.05 },
  "binding": ["memory"],
  "infeasible": { "constraint": "memory", "needs": 1900000, "has": 1000000 } }
\`\`\`

\`eval\`: \`{"model", "metric", "quality", "fidelity", "latencyMs", "memoryBytes", "images"}\`.

\`run\`: a list with one entry for each picture that could be read: \`picture\` (its path), \`latencyMs\`, \`width\` and \`height\`, and the
answer of the task: \`labels\`, \`boxes\`, \`classes\` with \`mask\`, \`image\`, or \`outputs\`. Masks and images are PNG in base64.

\`frontier\`: \`model\`, \`original\`, and the lists \`latency\` and \`memory\` of points, each with \`quality\`, \`qualityLow\`, \`latencyMs\`,
\`memoryBytes\`, \`inputSize\` and \`choices\`. Of several models: \`models\`, and in each point the mean quality, the sums of latency and memory, and
\`models\` with the same of each. \`tolerance\` 0 says that no point of the curves is missing; otherwise it is the loss by which one may be better.

\`models\`, \`inspect\`, \`profile\`, \`doctor\` and \`bench\` without a name: a list of rows. \`serve\` and \`start\`: \`{"url", "port", "models"}\`, once they listen.

With \`--nearest\`, a plan of status \`infeasible\` still has \`models\` and \`totals\`: the best plan once the limits in \`infeasible\` are as they need to be.

A problem file for \`plan --problem\`; \`weight\`, \`rate\`, the limits, \`current\`, \`swapMs\`, \`objective\` and \`timeLimitMs\` may be left out, and
\`"variants": [{"id", "blocks"}]\` may stand in place of \`blocks\`. Also known: \`"objective"\` \`quality\`, \`latency\`, \`memory\` or \`cpu\`;
\`"placement": "shared"\` where any core may run any model (unless given, each model runs on one core, which the plan names as \`core\`);
\`swapWeight\` and \`swapWeightPerMB\`, what a millisecond and a megabyte of loading blocks are worth in units of the objective:

\`\`\`json
{ "memoryBytes": 64e6, "cores": 2, "utilisation": 0.9,
  "models": [ { "id": "m0", "quality": 0.72, "weight": 1, "maxLatencyMs": 20, "rate": 15, "minQuality": 0.6,
      "blocks": [ { "id": "b0", "current": "d0",
          "choices": [ { "id": "d0", "loss": 0.0, "latencyMs": 2.1, "memoryBytes": 1200000, "swapMs": 1.0 } ] } ] } ],
  "objective": "quality", "timeLimitMs": 1000 }
\`\`\`
`

function section(command: Command): string {
  const usage = `blockscale ${command.name()} ${command.usage()}`
  const described = command.registeredArguments.filter(({ description }) => description)
  const rows = [
    ...described.map((each) => row(argumentName(each), each.description, each.defaultValue)),
    ...command.options
      .filter(({ hidden }) => !hidden)
      .map((each) => row(each.flags, each.description, defaultOf(each), each.envVar)),
  ]
  const examples = examplesOf(command)
  return `## ${command.name()}

${sentence(command.description())}

\`\`\`
${usage}
\`\`\`
${rows.length > 0 ? `\n| option | |\n|---|---|\n${rows.join('\n')}\n` : ''}${examples ? `\n\`\`\`bash\n${examples}\n\`\`\`\n` : ''}`
}

const argumentName = (argument: Argument): string => {
  const name = `${argument.name()}${argument.variadic ? '…' : ''}`
  return argument.required ? `<${name}>` : `[${name}]`
}

const defaultOf = ({ defaultValue, defaultValueDescription }: Option): unknown =>
  defaultValueDescription ?? defaultValue

function row(name: string, description: string, standard: unknown, variable?: string): string {
  const more = [standard === undefined ? '' : `default ${standard}`, variable ? `or the variable ${variable}` : '']
  const notes = more.filter(Boolean).join('; ')
  return `| \`${name}\` | ${description.replaceAll('|', '\\|')}${notes ? ` (${notes})` : ''} |`
}

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`

/** What `withExamples` added after the help. */
function examplesOf(command: Command): string {
  let text = ''
  command.configureOutput({
    writeOut: (part) => {
      text += part
    },
  })
  command.outputHelp()
  const at = text.indexOf('\nExamples:\n')
  return at < 0
    ? ''
    : text
        .slice(at + '\nExamples:\n'.length)
        .split('\n')
        .filter((line) => line.trim() !== '')
        .map((line) => line.replace(/^ {2}\$ /, ''))
        .join('\n')
}

import type { Argument, Command, Option } from 'commander'
import { oneOf, withExamples } from '../options.ts'
import type { Shell } from '../shell.ts'

const shells = ['bash', 'zsh'] as const

/** `blockscale completion` */
export function addCompletion(program: Command, shell: Shell): void {
  const command = program
    .command('completion')
    .description('a completion script for a shell')
    .argument('<shell>', shells.join(' or '), oneOf('shell', shells))
    .action((which: (typeof shells)[number]) => {
      shell.raw(which === 'bash' ? bashScript(program) : zshScript(program))
    })
  withExamples(command, [
    ['completion bash > ~/.local/share/bash-completion/completions/blockscale', 'for bash'],
    ['completion zsh > ~/.zsh/_blockscale', 'for zsh, with that folder in fpath'],
  ])
}

const HELP = ['help', 'explain a command'] as const

const flagsOf = (command: Command): readonly Option[] => command.options.filter(({ hidden }) => !hidden)
const longs = (command: Command): string =>
  ['--help', ...flagsOf(command).map(({ long }) => long ?? '')].filter(Boolean).join(' ')
const takesFile = ({ flags }: Option): boolean => /<(file|dir|png|out)>/.test(flags)

function bashScript(program: Command): string {
  const names = program.commands.map((command) => command.name())
  const cases = program.commands.map((command) => `    ${command.name()}) words="${longs(command)}" ;;`)
  const files = [
    ...new Set(program.commands.flatMap((command) => flagsOf(command).filter(takesFile)).map(({ long }) => long)),
  ]
  return `# bash completion of blockscale
_blockscale() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}" words
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "${[HELP[0], ...names].join(' ')}" -- "$current"))
    return
  fi
  case "$previous" in
    ${files.join('|')}) COMPREPLY=($(compgen -f -- "$current")); return ;;
  esac
  case "\${COMP_WORDS[1]}" in
${cases.join('\n')}
    help) COMPREPLY=($(compgen -W "${names.join(' ')}" -- "$current")); return ;;
  esac
  case "$current" in
    -*) COMPREPLY=($(compgen -W "$words" -- "$current")) ;;
    *) COMPREPLY=($(compgen -f -- "$current")) ;;
  esac
}
complete -o filenames -F _blockscale blockscale
`
}

function zshScript(program: Command): string {
  const all = [...program.commands.map((each) => [each.name(), each.description()] as const), HELP]
  const commands = all.map(([name, does]) => `    '${name}:${plain(does)}'`)
  const cases = program.commands.map((command) => {
    const flags = flagsOf(command).map(
      (each) =>
        `'${each.long}[${plain(each.description)}]${each.required || each.optional ? `:value:${takesFile(each) ? '_files' : ''}` : ''}'`,
    )
    const args = command.registeredArguments.map(
      (each: Argument) => `'${each.variadic ? '*' : ''}:${plain(each.name())}:_files'`,
    )
    return `    ${command.name()}) _arguments ${[...flags, ...args].join(' ')} ;;`
  })
  return `#compdef blockscale
# zsh completion of blockscale
_blockscale() {
  local -a commands
  commands=(
${commands.join('\n')}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local command="$words[2]"
  shift words
  (( CURRENT-- ))
  case "$command" in
${cases.join('\n')}
    help) _values command ${program.commands.map((command) => command.name()).join(' ')} ;;
  esac
}
if [ "$funcstack[1]" = _blockscale ]; then _blockscale "$@"; else compdef _blockscale blockscale; fi
`
}

/** Without the signs that mean something to the shell. */
const plain = (text: string): string => text.replace(/[[\]:'"`$\\]/g, '')

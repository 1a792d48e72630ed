import { run } from '../../src/cli/run.ts'

export interface Called {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
  /** standard output as JSON */
  json<T>(): T
}

/** Runs one command as a shell would, in this process. */
export async function call(...argv: readonly string[]): Promise<Called> {
  return calling(argv).done
}

/** The same for commands that run until they are interrupted. */
export function calling(argv: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const interrupt = new AbortController()
  const texts = { stdout: '', stderr: '' }
  const sink = (name: 'stdout' | 'stderr') => ({
    write(text: string) {
      texts[name] += text
    },
  })
  const done = run(argv, { stdout: sink('stdout'), stderr: sink('stderr'), env, signal: interrupt.signal }).then(
    (code): Called => ({ code, ...texts, json: <T>() => JSON.parse(texts.stdout) as T }),
  )
  return { done, texts, interrupt: () => interrupt.abort() }
}

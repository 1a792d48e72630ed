import type { Infeasible, Problem } from '../../src/optimizer/index.ts'

/** The problem with every limit that an answer names at the value that it says is needed, times `factor` (towards too little). */
export function relaxed(problem: Problem, { constraint, model, needs, maxRate, also }: Infeasible, slip = 0): Problem {
  const withModel = (change: Partial<Problem['models'][number]>): Problem => ({
    ...problem,
    models: problem.models.map((one) => (one.id === model ? { ...one, ...change } : one)),
  })
  const nudge = (value: number, sign: number) => value + sign * Math.max(Math.abs(value) * 1e-6, 1e-6) * slip
  const next =
    constraint === 'memory'
      ? { ...problem, memoryBytes: slip ? needs - 1 : needs }
      : constraint === 'latency'
        ? withModel({ maxLatencyMs: nudge(needs, -1) })
        : constraint === 'quality'
          ? withModel({ minQuality: nudge(needs, 1) })
          : maxRate === undefined
            ? { ...problem, cores: nudge(needs, -1) }
            : withModel({ rate: nudge(maxRate, 1) })
  return (also ?? []).reduce((eased, answer) => relaxed(eased, answer), next)
}

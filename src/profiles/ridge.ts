/**
 * Ridge regression: the γ that minimises Σ (target_i − row_i·γ)² + λ·|γ|².
 *
 * Solved in the space of rows, which are fewer than columns as a rule. Rows hold (column, value) pairs.
 */
export function ridge(
  rows: readonly ReadonlyMap<number, number>[],
  targets: readonly number[],
  lambda: number,
  columns: number,
): Float64Array {
  const n = rows.length
  const gram = new Float64Array(n * n)
  const dense = rows.map((row) => {
    const values = new Float64Array(columns)
    for (const [column, value] of row) values[column] = value
    return values
  })
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let dot = 0
      for (const [column, value] of rows[i]!) dot += value * dense[j]![column]!
      gram[i * n + j] = dot + (i === j ? lambda : 0)
    }
  }
  const alpha = solveCholesky(gram, targets, n)
  const gamma = new Float64Array(columns)
  for (let i = 0; i < n; i++) for (const [column, value] of rows[i]!) gamma[column]! += value * alpha[i]!
  return gamma
}

/** Solves for a positive definite matrix of which the lower half is given; it is overwritten. */
function solveCholesky(a: Float64Array, right: readonly number[], n: number): Float64Array {
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let value = a[i * n + j]!
      for (let k = 0; k < j; k++) value -= a[i * n + k]! * a[j * n + k]!
      a[i * n + j] = i === j ? Math.sqrt(Math.max(value, 1e-18)) : value / a[j * n + j]!
    }
  }
  const x = Float64Array.from(right)
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) x[i]! -= a[i * n + k]! * x[k]!
    x[i]! /= a[i * n + i]!
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let k = i + 1; k < n; k++) x[i]! -= a[k * n + i]! * x[k]!
    x[i]! /= a[i * n + i]!
  }
  return x
}

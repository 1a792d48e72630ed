import GLPK, { type LP } from 'glpk.js/node'

const glpk = await GLPK()

/** A configuration in the master: its cost and what it uses of each row, as a share of the row's limit. */
export interface Column {
  readonly cost: number
  readonly uses: Float64Array
}

export interface MasterSolution {
  /** price of each row, ≥ 0 */
  readonly rows: Float64Array
  /** price of each model's "one configuration": no column of it is cheaper at the prices of the rows */
  readonly models: Float64Array
  /** share of each column in the mix */
  readonly shares: readonly Float64Array[]
  readonly value: number
  /** by how much the mix exceeds the rows in all (in shares of their limits): above 0 when no mix of these columns fits */
  readonly excess: number
}

/**
 * The linear master programme: mix the columns of each model so that the rows hold, at least cost.
 *
 * Rows are shares of their limits, so that the coefficients are near 1 (GLPK's tolerances are absolute). A row may be exceeded
 * for `penalty` for each whole limit, so the programme always has a solution and honest prices. The first column of each model
 * is written as "what the others leave": when those columns fit, the simplex starts from a solution.
 */
export function solveMaster(
  columns: readonly (readonly Column[])[],
  rowCount: number,
  penalty: number,
): MasterSolution {
  const objective: LP['objective']['vars'] = []
  const rows: LP['subjectTo'] = []
  const base = columns.map((own) => own[0]!)
  for (let r = 0; r < rowCount; r++) {
    const vars = [{ name: `s${r}`, coef: -1 }]
    objective.push({ name: `s${r}`, coef: penalty })
    columns.forEach((own, m) => {
      for (let k = 1; k < own.length; k++) {
        const coef = own[k]!.uses[r]! - base[m]!.uses[r]!
        if (coef !== 0) vars.push({ name: `x${m}_${k}`, coef })
      }
    })
    const ub = base.reduce((left, column) => left - column.uses[r]!, 1)
    rows.push({ name: `r${r}`, vars, bnds: { type: glpk.GLP_UP, ub, lb: 0 } })
  }
  let value = base.reduce((sum, column) => sum + column.cost, 0)
  columns.forEach((own, m) => {
    if (own.length < 2) return
    const vars: LP['objective']['vars'] = []
    for (let k = 1; k < own.length; k++) {
      objective.push({ name: `x${m}_${k}`, coef: own[k]!.cost - base[m]!.cost })
      vars.push({ name: `x${m}_${k}`, coef: 1 })
    }
    rows.push({ name: `m${m}`, vars, bnds: { type: glpk.GLP_UP, ub: 1, lb: 0 } })
  })
  const lp: LP = {
    name: 'master',
    objective: { direction: glpk.GLP_MIN, name: 'cost', vars: objective },
    subjectTo: rows,
  }
  // Without presolve: with it the duals of removed rows come back as 0.
  const { result } = glpk.solve(lp, { presol: false, msglev: glpk.GLP_MSG_OFF })
  value += result.z
  // Duals of ≤ rows of a minimisation come back ≤ 0.
  const prices = Float64Array.from({ length: rowCount }, (_, r) => Math.max(0, -(result.dual?.[`r${r}`] ?? 0)))
  let excess = 0
  for (let r = 0; r < rowCount; r++) excess += result.vars[`s${r}`] ?? 0
  return {
    rows: prices,
    models: Float64Array.from(columns, (_, m) => {
      const { cost, uses } = base[m]!
      return cost + dot(prices, uses) + Math.min(0, result.dual?.[`m${m}`] ?? 0)
    }),
    shares: columns.map((own, m) => {
      const shares = Float64Array.from(own, (_, k) => (k === 0 ? 0 : (result.vars[`x${m}_${k}`] ?? 0)))
      shares[0] = 1 - shares.reduce((sum, share) => sum + share, 0)
      return shares
    }),
    value,
    excess,
  }
}

export function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!
  return sum
}

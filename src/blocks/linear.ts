import { openSession, type Session } from '../engine/index.ts'
import { type Model, node, writeModel } from '../onnx/index.ts'
import { floats } from '../tensor/index.ts'

/**
 * Matrix products by ONNX Runtime, which is the BLAS of this program (150–200 GFLOP/s on one thread against 1 in plain
 * JavaScript). Matrices are row-major Float32Arrays.
 */
export interface LinearAlgebra {
  /** `aᵀ·b` for a `[rows, n]` and b `[rows, m]`: an `[n, m]` matrix */
  transposedProduct(a: Float32Array, b: Float32Array, rows: number): Promise<Float32Array>
  /** `a·b` for a `[rows, n]` and b `[n, m]`: a `[rows, m]` matrix */
  product(a: Float32Array, b: Float32Array, n: number): Promise<Float32Array>
  close(): Promise<void>
}

export async function openLinearAlgebra(threads = 1): Promise<LinearAlgebra> {
  const session: Session = await openSession(writeModel(matMul(true)), { threads })
  const plain: Session = await openSession(writeModel(matMul(false)), { threads })
  return {
    async transposedProduct(a, b, rows) {
      const product = await session.run({
        a: floats([rows, a.length / rows], a),
        b: floats([rows, b.length / rows], b),
      })
      return product.c!.data as Float32Array
    },
    async product(a, b, n) {
      const result = await plain.run({ a: floats([a.length / n, n], a), b: floats([n, b.length / n], b) })
      return result.c!.data as Float32Array
    },
    async close() {
      await session.release()
      await plain.release()
    },
  }
}

function matMul(transposed: boolean): Model {
  const matrix = (name: string, rows: string, columns: string) => ({
    name,
    fact: { type: 'float32' as const, dims: [rows, columns] },
  })
  return {
    graph: {
      name: 'product',
      inputs: [transposed ? matrix('a', 'k', 'rows') : matrix('a', 'rows', 'k'), matrix('b', 'k', 'm')],
      outputs: [{ name: 'c', fact: { type: 'float32' } }],
      nodes: transposed
        ? [
            node('Transpose', ['a'], ['at'], { perm: { kind: 'ints', value: [1, 0] } }),
            node('MatMul', ['at', 'b'], ['c']),
          ]
        : [node('MatMul', ['a', 'b'], ['c'])],
      initializers: new Map(),
      facts: new Map(),
    },
    opsets: new Map([['', 13]]),
    irVersion: 8,
    producer: '',
    metadata: new Map(),
    functions: [],
  }
}

/** The sum of the products of two lists of the same length, or of two matrices as lists: `tr(aᵀ·b)`. */
export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!
  return sum
}

/**
 * Solves `a·x = b` for a symmetric positive definite `[n, n]` and b `[n, m]` by Cholesky, in double precision.
 * Both are left unchanged.
 *
 * @returns x `[n, m]`, or undefined when `a` is not positive definite
 */
export function solveSymmetric(a: ArrayLike<number>, b: ArrayLike<number>, n: number): Float64Array | undefined {
  const factor = cholesky(a, n)
  if (!factor) return undefined
  const m = b.length / n
  const x = Float64Array.from(b)
  // Row by row over all right sides at once, so that the inner loop runs along memory.
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) {
      const f = factor[i * n + k]!
      if (f !== 0) for (let j = 0; j < m; j++) x[i * m + j]! -= f * x[k * m + j]!
    }
    const d = factor[i * n + i]!
    for (let j = 0; j < m; j++) x[i * m + j]! /= d
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let k = i + 1; k < n; k++) {
      const f = factor[k * n + i]!
      if (f !== 0) for (let j = 0; j < m; j++) x[i * m + j]! -= f * x[k * m + j]!
    }
    const d = factor[i * n + i]!
    for (let j = 0; j < m; j++) x[i * m + j]! /= d
  }
  return x
}

/** The inverse of a symmetric positive definite matrix, or undefined: `L⁻ᵀ·L⁻¹` of its Cholesky factor. */
export function invertSymmetric(a: ArrayLike<number>, n: number): Float64Array | undefined {
  const factor = cholesky(a, n)
  if (!factor) return undefined
  // Row by row, each the shorter the earlier it is: a sixth of the work of solving for the identity.
  const lower = new Float64Array(n * n)
  for (let i = 0; i < n; i++) {
    const row = i * n
    for (let k = 0; k < i; k++) {
      const f = factor[row + k]!
      if (f !== 0) for (let j = 0; j <= k; j++) lower[row + j]! -= f * lower[k * n + j]!
    }
    lower[row + i] = 1
    const d = factor[row + i]!
    for (let j = 0; j <= i; j++) lower[row + j]! /= d
  }
  const inverse = new Float64Array(n * n)
  for (let k = 0; k < n; k++) {
    for (let i = 0; i <= k; i++) {
      const f = lower[k * n + i]!
      if (f !== 0) for (let j = 0; j <= i; j++) inverse[i * n + j]! += f * lower[k * n + j]!
    }
  }
  for (let i = 0; i < n; i++) for (let j = i + 1; j < n; j++) inverse[i * n + j] = inverse[j * n + i]!
  return inverse
}

/** A copy of a symmetric `[n, n]` matrix with a share of its mean diagonal added to the diagonal. */
export function withRidge(a: ArrayLike<number>, n: number, share: number): Float64Array {
  const result = Float64Array.from(a)
  let trace = 0
  for (let i = 0; i < n; i++) trace += result[i * n + i]!
  const ridge = (share * trace) / n + 1e-12
  for (let i = 0; i < n; i++) result[i * n + i]! += ridge
  return result
}

/** The lower `L` of `a = L·Lᵀ`, or undefined where `a` is not positive definite. */
export function cholesky(a: ArrayLike<number>, n: number): Float64Array | undefined {
  const l = new Float64Array(n * n)
  for (let j = 0; j < n; j++) {
    for (let i = j; i < n; i++) {
      let sum = a[i * n + j]!
      const ri = i * n
      const rj = j * n
      for (let k = 0; k < j; k++) sum -= l[ri + k]! * l[rj + k]!
      if (i === j) {
        if (!(sum > 0)) return undefined
        l[ri + j] = Math.sqrt(sum)
      } else {
        l[ri + j] = sum / l[rj + j]!
      }
    }
  }
  return l
}

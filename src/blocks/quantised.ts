import { floats, type Tensor } from '../tensor/index.ts'

/** A 32-bit bias in the scale in which integer kernels add products: that of the input times that of the weights. */
export function quantiseBias(
  bias: Float32Array,
  inputScale: number,
  scales: Float32Array,
): { stored: Tensor<'int32'>; scales: Tensor<'float32'> } {
  const stored = new Int32Array(scales.length)
  const biasScales = new Float32Array(scales.length)
  for (let c = 0; c < scales.length; c++) {
    biasScales[c] = inputScale * scales[c]!
    stored[c] = Math.max(-(2 ** 31), Math.min(2 ** 31 - 1, Math.round(bias[c]! / biasScales[c]!)))
  }
  return { stored: { type: 'int32', dims: [stored.length], data: stored }, scales: floats([stored.length], biasScales) }
}

import { floats, type Tensor } from '../tensor/index.ts'

/** Symmetric weights with one scale for each slice of `axis`. */
export function quantiseWeights(
  weights: Tensor<'float32'>,
  axis: number,
  bits: 7 | 8,
): { stored: Tensor<'int8'>; scales: Float32Array } {
  const limit = 2 ** (bits - 1) - 1
  const channels = weights.dims[axis]!
  const inner = weights.dims.slice(axis + 1).reduce((product, dim) => product * dim, 1)
  const scales = new Float32Array(channels)
  const channelOf = (index: number) => Math.floor(index / inner) % channels
  weights.data.forEach((value, index) => {
    const c = channelOf(index)
    scales[c] = Math.max(scales[c]!, Math.abs(value))
  })
  // An all-zero channel still needs a scale, and a tiny one would overflow the 32-bit bias.
  const largest = scales.reduce((a, b) => Math.max(a, b), 0)
  for (let c = 0; c < channels; c++) scales[c] = Math.max(scales[c]!, largest * 1e-4, 1e-8) / limit
  const stored = Int8Array.from(weights.data, (value, index) =>
    Math.max(-limit, Math.min(limit, Math.round(value / scales[channelOf(index)]!))),
  )
  return { stored: { type: 'int8', dims: weights.dims, data: stored }, scales }
}

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

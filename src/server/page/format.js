/** `4100000` → `4.10 MB`, in the units of the command line. */
export function bytes(value) {
  if (value === undefined || value === null) return '–'
  if (value < 1e3) return `${Math.round(value)} B`
  if (value < 1e6) return `${(value / 1e3).toFixed(1)} kB`
  if (value < 1e9) return `${(value / 1e6).toFixed(2)} MB`
  return `${(value / 1e9).toFixed(2)} GB`
}

export function ms(value) {
  if (value === undefined || value === null) return '–'
  return value < 10
    ? `${value.toFixed(2)} ms`
    : value < 1e3
      ? `${value.toFixed(1)} ms`
      : `${(value / 1e3).toFixed(1)} s`
}

/** Qualities are shares (0 to 1) or decibels, by the metric of the model. */
export const quality = (value) => (value > 1.5 ? `${value.toFixed(2)} dB` : `${(100 * value).toFixed(1)} %`)

/** `279936` → `279,936`, `1.2e17` → `1.2e+17` */
export const count = (value) => (value < 1e9 ? value.toLocaleString('en') : value.toExponential(1))

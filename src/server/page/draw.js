// Answers drawn over the picture that they belong to.

const palette = ['#ff5d5d', '#ffb000', '#33c27f', '#3aa0ff', '#b57bff', '#ff7ab8', '#00c2c7', '#c0d62f']
const colourOf = (index) => palette[index % palette.length]
/** A label keeps its colour from frame to frame. */
const colourOfLabel = (label) => colourOf([...label].reduce((sum, letter) => sum + letter.charCodeAt(0), 0))

/** Draws `picture` (anything that canvas draws) and the answers for it; the canvas gets the size of the picture. */
export async function draw(canvas, picture, answers) {
  const upscaled = answers.find((answer) => answer.task === 'super-resolution' && answer.image)
  const base = upscaled ? await bitmapOf(upscaled.image) : picture
  const given = answers[0]?.picture ?? { width: base.width, height: base.height }
  canvas.width = upscaled ? base.width : given.width
  canvas.height = upscaled ? base.height : given.height
  const context = canvas.getContext('2d')
  context.drawImage(base, 0, 0, canvas.width, canvas.height)
  const scale = canvas.width / given.width
  for (const answer of answers) if (answer.task === 'segmentation') await drawMask(context, answer)
  for (const answer of answers) if (answer.boxes) drawBoxes(context, answer.boxes, scale)
  drawLabels(
    context,
    answers.filter((answer) => answer.labels),
  )
}

function drawBoxes(context, boxes, scale) {
  const { width } = context.canvas
  const line = Math.max(2, width / 300)
  const size = Math.max(12, width / 40)
  context.lineWidth = line
  context.font = `600 ${size}px system-ui, sans-serif`
  context.textBaseline = 'top'
  for (const box of boxes) {
    const [x, y, right, bottom] = box.box.map((value) => value * scale)
    const colour = colourOfLabel(box.label)
    context.strokeStyle = colour
    context.strokeRect(x, y, right - x, bottom - y)
    const text = `${box.label || 'face'} ${Math.round(100 * box.score)} %`
    const above = Math.max(0, y - size * 1.3)
    const wide = context.measureText(text).width + size * 0.6
    const start = Math.max(0, Math.min(x - line / 2, width - wide))
    context.fillStyle = colour
    context.fillRect(start, above, wide, size * 1.3)
    context.fillStyle = '#000'
    context.fillText(text, start + size * 0.3, above + size * 0.15)
    const points = box.landmarks ?? []
    for (let i = 0; i + 1 < points.length; i += 2) {
      context.beginPath()
      context.arc(points[i] * scale, points[i + 1] * scale, line * 1.2, 0, 2 * Math.PI)
      context.fillStyle = colour
      context.fill()
    }
  }
}

/** `great white shark, white shark, …` → `great white shark`: on a picture there is little room. */
export const firstName = (label) => label.split(',')[0]

function drawLabels(context, answers) {
  const { width } = context.canvas
  const size = Math.max(10, width / 32)
  context.font = `600 ${size}px system-ui, sans-serif`
  context.textBaseline = 'top'
  answers.forEach((answer, row) => {
    const best = answer.labels[0]
    if (!best) return
    const text = `${firstName(best.label)} ${Math.round(100 * best.score)} %`
    context.fillStyle = 'rgba(0, 0, 0, .65)'
    context.fillRect(0, row * size * 1.5, context.measureText(text).width + size, size * 1.5)
    context.fillStyle = '#fff'
    context.fillText(text, size / 2, row * size * 1.5 + size * 0.25)
  })
}

/** The mask is a grey PNG whose values are class indices; 0 (background) is left clear. */
async function drawMask(context, answer) {
  const mask = await bitmapOf(answer.mask)
  const { width, height } = context.canvas
  const layer = new OffscreenCanvas(mask.width, mask.height)
  const inside = layer.getContext('2d')
  inside.drawImage(mask, 0, 0)
  const pixels = inside.getImageData(0, 0, mask.width, mask.height)
  const { data } = pixels
  for (let i = 0; i < data.length; i += 4) {
    const index = data[i]
    const colour = Number.parseInt(colourOf(index).slice(1), 16)
    data[i] = colour >> 16
    data[i + 1] = (colour >> 8) & 255
    data[i + 2] = colour & 255
    data[i + 3] = index === 0 ? 0 : 150
  }
  inside.putImageData(pixels, 0, 0)
  context.drawImage(layer, 0, 0, width, height)
}

async function bitmapOf(base64) {
  const data = base64.startsWith('data:') ? base64.slice(base64.indexOf(',') + 1) : base64
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))
  // no colour conversion: in a mask the values are numbers, not colours
  return createImageBitmap(new Blob([bytes], { type: 'image/png' }), { colorSpaceConversion: 'none' })
}

import { useEffect, useRef, useState } from 'preact/hooks'
import { call, openStream } from './api.js'
import { draw, firstName } from './draw.js'
import * as format from './format.js'
import { html } from './html.js'

const CAMERA_WIDTH = 640

/** A picture or the camera of the visitor through chosen models, the answers drawn over it. */
export function TryIt({ models }) {
  const [chosen, setChosen] = useState()
  const [picture, setPicture] = useState()
  const [answers, setAnswers] = useState({})
  const [problem, setProblem] = useState('')
  const [camera, setCamera] = useState(false)
  const [rate, setRate] = useState()
  const canvas = useRef()
  const names = models.map((each) => each.model)
  const active = names.filter((name) => (chosen ? chosen.has(name) : true))

  const show = async (source, result) => {
    setAnswers(result)
    const good = Object.values(result).filter((each) => !each.error)
    if (canvas.current) await draw(canvas.current, source, good)
  }

  const run = async (file) => {
    setProblem('')
    try {
      const bitmap = await createImageBitmap(file).catch(() => undefined)
      const { answers: result } = await call(
        'POST',
        `/v1/frames?models=${active.map(encodeURIComponent).join(',')}`,
        file,
      )
      await show(bitmap, result)
    } catch (error) {
      setProblem(`${error.message}. ${error.hint ?? ''}`)
    }
  }

  useEffect(() => {
    if (picture && active.length && !camera) void run(picture)
  }, [picture, active.join(), camera])

  const framesPerSecond = useRef(0)
  const showFrame = async (source, result, sinceLast) => {
    framesPerSecond.current += 0.2 * (1000 / sinceLast - framesPerSecond.current)
    setRate(framesPerSecond.current)
    await show(source, result)
  }
  useCamera(camera && active.length > 0, active, showFrame, (words) => {
    setProblem(words)
    setCamera(false)
  })

  const toggle = (name) => {
    const next = new Set(active)
    if (!next.delete(name)) next.add(name)
    setChosen(next)
  }
  const take = (file) => {
    if (!file) return
    setCamera(false)
    setPicture(file)
  }
  return html`<section class="try panel" aria-labelledby="try-title">
    <h2 id="try-title">Try a picture</h2>
    <fieldset>
      <legend>through</legend>
      ${names.map(
        (name) => html`<label key=${name} class="choice">
          <input type="checkbox" class="tick" checked=${active.includes(name)} onChange=${() => toggle(name)} /> ${name}
        </label>`,
      )}
    </fieldset>
    <div class="sources">
      <label class="button">
        choose a picture
        <input type="file" class="file-input" accept="image/jpeg,image/png,image/webp" onChange=${(event) => take(event.currentTarget.files[0])} />
      </label>
      <button type="button" aria-pressed=${camera} onClick=${() => setCamera(!camera)}>
        ${camera ? 'stop the camera' : 'use the camera'}
      </button>
      ${camera && rate !== undefined && html`<span class="quiet">${rate.toFixed(1)} pictures in a second</span>`}
    </div>
    ${problem && html`<p role="alert" class="warning">${problem}</p>`}
    <div
      class="drop"
      onDragOver=${(event) => event.preventDefault()}
      onDrop=${(event) => {
        event.preventDefault()
        take(event.dataTransfer.files[0])
      }}
    >
      <canvas ref=${canvas} role="img" aria-label="The picture with the answers drawn on it" hidden=${!picture && !camera}></canvas>
      ${!picture && !camera && html`<p class="quiet">or drop one here</p>`}
    </div>
    <div aria-live=${camera ? 'off' : 'polite'}>
      ${Object.entries(answers).map(([name, answer]) => html`<${Answer} key=${name} name=${name} answer=${answer} />`)}
    </div>
  </section>`
}

function Answer({ name, answer }) {
  if (answer.error) return html`<p class="answer warning"><b>${name}</b> ${answer.error.message}</p>`
  return html`<p class="answer">
    <b>${name}</b> ${words(answer)}
    <span class="quiet"> ${format.ms(answer.latencyMs)}, expected quality ${format.quality(answer.quality)}</span>
  </p>`
}

function words(answer) {
  if (answer.labels) {
    return answer.labels
      .slice(0, 3)
      .map((each) => `${firstName(each.label)} ${Math.round(100 * each.score)} %`)
      .join(', ')
  }
  if (answer.boxes) {
    if (answer.boxes.length === 0) return 'found nothing'
    const counts = new Map()
    for (const { label } of answer.boxes) counts.set(label || 'face', (counts.get(label || 'face') ?? 0) + 1)
    return [...counts].map(([label, count]) => (count > 1 ? `${count} × ${label}` : label)).join(', ')
  }
  if (answer.classes) return answer.classes.map((each) => `${each.label} ${Math.round(100 * each.share)} %`).join(', ')
  return answer.task
}

/** Sends camera frames over a stream: the next one when the last answer is there, so nothing piles up anywhere. */
function useCamera(on, models, show, fail) {
  useEffect(() => {
    if (!on) return undefined
    const video = document.createElement('video')
    const frame = document.createElement('canvas')
    let media
    let stream
    let ended = false
    let last = performance.now()
    const next = () => {
      if (ended) return
      frame.width = Math.min(CAMERA_WIDTH, video.videoWidth)
      frame.height = Math.round((frame.width * video.videoHeight) / video.videoWidth)
      frame.getContext('2d').drawImage(video, 0, 0, frame.width, frame.height)
      frame.toBlob((blob) => blob && stream.send(blob), 'image/jpeg', 0.85)
    }
    const start = async () => {
      if (!navigator.mediaDevices)
        throw new Error('Browsers give the camera only to pages of this machine or over https.')
      media = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' }, audio: false })
      if (ended) return end()
      video.srcObject = media
      video.playsInline = true
      video.muted = true
      await video.play()
      stream = openStream(
        models,
        async ({ answers, error }) => {
          if (ended) return
          const sinceLast = performance.now() - last
          last = performance.now()
          if (answers) await show(frame, answers, sinceLast)
          else if (error.code !== 'OVERLOADED') return fail(error.message)
          next()
        },
        () => !ended && fail('The stream ended.'),
      )
      await stream.ready
      next()
      return undefined
    }
    const end = () => {
      ended = true
      stream?.close()
      for (const track of media?.getTracks() ?? []) track.stop()
    }
    start().catch((error) => {
      end()
      fail(error.message)
    })
    return end
  }, [on, models.join()])
}

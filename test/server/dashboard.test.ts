import { existsSync } from 'node:fs'
import { type Browser, chromium, type Page, type Request } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { CLASSIFIER, DETECTOR, FACES, pictureOf, type Service, startService } from './serving.ts'

const executablePath = process.env.CHROMIUM_PATH ?? '/usr/bin/chromium'
const flags =
  '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'
const camera = ['--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream']
const token = 'a-long-enough-token-of-ours'
/** As long as a busy machine needs. */
const PATIENCE_MS = 120_000

describe.skipIf(!existsSync(executablePath))('the dashboard, in Chromium', () => {
  let browser: Browser
  let service: Service
  let page: Page
  const faults: string[] = []

  beforeAll(async () => {
    service = await startService()
    browser = await chromium.launch({ executablePath, args: [...flags.split(' '), ...camera], timeout: PATIENCE_MS })
  })
  afterAll(() => browser?.close())
  afterEach(async () => {
    await page.context().close()
    // a blocked script, a style that the policy forbids and an exception all end here
    expect(faults.splice(0)).toEqual([])
  })

  async function open(url = service.url, options: Parameters<Browser['newContext']>[0] = {}): Promise<void> {
    page = await (await browser.newContext(options)).newPage()
    page.setDefaultTimeout(PATIENCE_MS)
    page.on('pageerror', (error) => faults.push(error.message))
    page.on('console', (message) => message.type() === 'error' && faults.push(message.text()))
    page.on('request', (request) => {
      const { origin, protocol } = new URL(request.url())
      if (protocol.startsWith('http') && origin !== new URL(url).origin) faults.push(`asked ${request.url()}`)
    })
    await page.goto(url)
  }

  /** What the browser says of requests that the service refused with this status: an error for it too, which comes in its own time. */
  async function expectRefused(status: string): Promise<void> {
    await expect.poll(() => faults.length, { timeout: PATIENCE_MS }).toBeGreaterThan(0)
    expect(faults.splice(0).filter((fault) => !fault.includes(status))).toEqual([])
  }

  const widthIsEnough = () => page.evaluate('document.documentElement.scrollWidth <= innerWidth')

  it('shows the plan: a tower for each model, a brick for each block', async () => {
    await open()
    for (const model of [CLASSIFIER, DETECTOR, FACES]) {
      const tower = page.getByRole('list', { name: `Blocks of ${model}` })
      await tower.waitFor()
      expect(await tower.getByRole('listitem').count()).toBe(3)
    }
    await page.getByText('live', { exact: true }).waitFor()
    expect(await page.getByRole('meter', { name: 'memory' }).count()).toBeGreaterThan(0)
    await page
      .getByRole('group', { name: /possible from/ })
      .first()
      .waitFor()
  })

  it('a slider moves the budget: blocks are swapped before the eyes of the visitor', async () => {
    await open()
    const slider = page.getByRole('slider', { name: 'memory budget' })
    await slider.waitFor()
    // by keyboard, down until the plan has to change
    await slider.focus()
    const before = service.runtime.live().id
    // the service is asked once the slider rests, and a swap takes as long as it takes
    let [asked, answered] = [0, 0]
    const isBudget = (request: Request) => request.method() === 'PUT' && request.url().endsWith('/v1/budget')
    page.on('request', (request) => isBudget(request) && asked++)
    page.on('requestfinished', (request) => isBudget(request) && answered++)
    for (let i = 0; i < 40 && service.runtime.live().id === before; i++) {
      const already = asked
      for (let k = 0; k < 5; k++) await slider.press('ArrowLeft')
      await expect.poll(() => asked > already && answered === asked, { timeout: PATIENCE_MS }).toBe(true)
    }
    await page
      .getByText(/Swapped \d+ blocks?/)
      .first()
      .waitFor()
    await page.locator('.brick.kind-prune').first().waitFor()
    await slider.press('End')
    await page.getByText('no limit').first().waitFor()
    await expect.poll(() => page.locator('.brick.kind-prune').count(), { timeout: PATIENCE_MS }).toBe(0)
    expect(service.runtime.budget().memoryBytes).toBeUndefined()
  })

  it('says what is wrong when nothing fits, and keeps what is', async () => {
    await open()
    const slider = page.getByRole('slider', { name: 'memory budget' })
    await slider.waitFor()
    const before = service.runtime.live().id
    await slider.press('Home')
    await page
      .getByRole('alert')
      .getByText(/at least/)
      .waitFor()
    expect(service.runtime.live().id).toBe(before)
    await expectRefused('409')
  })

  it('runs a picture through chosen models and draws the answer', async () => {
    await open()
    await page.getByRole('checkbox', { name: CLASSIFIER }).uncheck()
    const buffer = Buffer.from(await pictureOf('jpeg', 320, 240))
    await page.getByLabel('choose a picture').setInputFiles({ name: 'x.jpg', mimeType: 'image/jpeg', buffer })
    const answers = page.locator('.answer')
    await answers
      .filter({ hasText: DETECTOR })
      .getByText(/× Person/)
      .waitFor()
    expect(await answers.filter({ hasText: FACES }).count()).toBe(1)
    expect(await answers.filter({ hasText: CLASSIFIER }).count()).toBe(0)
    const drawn = await page.evaluate(`{
      const canvas = document.querySelector('canvas')
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
      new Set(Array.from({ length: data.length / 4 }, (_, i) => data[4 * i] * 65536 + data[4 * i + 1] * 256 + data[4 * i + 2])).size
    }`)
    expect(drawn).toBeGreaterThan(10)
    await page
      .getByLabel('choose a picture')
      .setInputFiles({ name: 'x.jpg', mimeType: 'image/jpeg', buffer: Buffer.from('no') })
    await page
      .getByRole('alert')
      .getByText(/no JPEG/)
      .waitFor()
    await expectRefused('400')
  })

  it('runs the camera', async () => {
    await open()
    await page.getByRole('button', { name: 'use the camera' }).click()
    await page
      .locator('.answer')
      .filter({ hasText: DETECTOR })
      .getByText(/× Person/)
      .waitFor()
    await page.getByRole('button', { name: 'stop the camera' }).click()
    await page.getByRole('button', { name: 'use the camera' }).waitFor()
  })

  it('stops and starts a model', async () => {
    await open()
    await page.getByRole('button', { name: `Stop ${FACES}` }).click()
    await page.getByRole('button', { name: `start ${FACES}` }).click()
    await page.getByRole('list', { name: `Blocks of ${FACES}` }).waitFor()
  })

  it('fits a phone, in the dark', async () => {
    await open(service.url, { viewport: { width: 360, height: 740 }, colorScheme: 'dark' })
    await page.getByRole('list', { name: `Blocks of ${DETECTOR}` }).waitFor()
    expect(await widthIsEnough()).toBe(true)
    const ground = await page.evaluate('getComputedStyle(document.body).backgroundColor')
    expect(ground).toBe('rgb(16, 21, 27)')
    await page.goto(`${service.url}/docs`)
    await page.getByRole('heading', { name: 'workloads' }).waitFor()
    expect(await widthIsEnough()).toBe(true)
  })

  it('asks for the token where one is needed', async () => {
    const guarded = await startService({ token })
    await open(guarded.url)
    await page.getByLabel('This service needs its token').fill(token)
    await page.keyboard.press('Enter')
    await page.getByRole('list', { name: `Blocks of ${CLASSIFIER}` }).waitFor()
    faults.splice(0)
  })
})

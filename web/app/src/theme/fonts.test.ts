import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { chooseFonts, MAX_FONT_WAIT } from './fonts'

const root = document.documentElement
const before = document.fonts

beforeEach(() => void vi.useFakeTimers())
afterEach(() => {
  vi.useRealTimers()
  delete root.dataset['fonts']
  Object.defineProperty(document, 'fonts', { configurable: true, value: before })
})

function fonts(load: () => Promise<unknown[]>): void {
  Object.defineProperty(document, 'fonts', { configurable: true, value: { load } })
}

test('fonts that are here by the first rendering are used', async () => {
  fonts(async () => [{}])
  await chooseFonts()
  expect(root.dataset['fonts']).toBe('own')
})

test('fonts that come later are not used, and are not waited for', async () => {
  let come: (faces: unknown[]) => void = () => {}
  fonts(() => new Promise((resolve) => (come = resolve)))
  const chosen = chooseFonts()
  await vi.advanceTimersByTimeAsync(MAX_FONT_WAIT)
  await chosen
  come([{}])
  await vi.advanceTimersByTimeAsync(1)
  expect(root.dataset['fonts']).toBeUndefined()
})

test('a font that fails and a browser that refuses fonts leave those of the machine', async () => {
  for (const load of [() => Promise.reject(new Error('gone')), async () => []]) {
    fonts(load)
    await chooseFonts()
    expect(root.dataset['fonts']).toBeUndefined()
  }
})

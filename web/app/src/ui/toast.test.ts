import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { dismissToast, forgetToasts, holdToasts, toastDone, toastNotice, toastStore } from './toast'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => {
  forgetToasts()
  vi.useRealTimers()
})

const titles = () => toastStore.get().map((toast) => toast.title)

test('a message that goes by itself stays while someone points at the messages, and goes when they do no longer', () => {
  toastNotice('asks', 'for something')
  toastDone('is done')
  holdToasts(true)
  vi.advanceTimersByTime(60_000)
  expect(titles()).toEqual(['asks', 'is done'])
  holdToasts(false)
  expect(titles()).toEqual(['asks'])
})

test('messages go by themselves again when the one that was pointed at was closed', () => {
  toastDone('closed')
  holdToasts(true)
  dismissToast(toastStore.get()[0]?.id ?? 0)
  toastDone('next')
  vi.advanceTimersByTime(60_000)
  expect(titles()).toEqual([])
})

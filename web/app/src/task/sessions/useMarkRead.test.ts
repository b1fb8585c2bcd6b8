import { beforeEach, describe, expect, it, vi } from 'vitest'
import { READ_DELAY, ReadMarker } from './useMarkRead'

beforeEach(() => {
  vi.useFakeTimers()
})

function make(options: { visible?: boolean; fails?: boolean } = {}) {
  const marked: number[] = []
  const state = { visible: options.visible ?? true, fails: options.fails ?? false }
  const marker = new ReadMarker(
    async (offset) => {
      marked.push(offset)
      if (state.fails) throw new Error('no')
    },
    () => state.visible,
  )
  return { marker, marked, state }
}

describe('a read mark', () => {
  it('is set once for all that was seen within a second', () => {
    const { marker, marked } = make()
    marker.seen(1)
    marker.seen(2)
    vi.advanceTimersByTime(READ_DELAY - 1)
    marker.seen(3)
    expect(marked).toEqual([])
    vi.advanceTimersByTime(1)
    expect(marked).toEqual([3])
  })

  it('never goes back', () => {
    const { marker, marked } = make()
    marker.known(9)
    marker.seen(5)
    vi.advanceTimersByTime(READ_DELAY)
    expect(marked).toEqual([])
  })

  it('is not set while nobody looks, and set when somebody does', () => {
    const { marker, marked, state } = make({ visible: false })
    marker.seen(4)
    vi.advanceTimersByTime(READ_DELAY)
    expect(marked).toEqual([])
    state.visible = true
    marker.resume()
    vi.advanceTimersByTime(READ_DELAY)
    expect(marked).toEqual([4])
  })

  it('is not set for a tab that was left within the second', () => {
    const { marker, marked, state } = make()
    marker.seen(4)
    state.visible = false
    vi.advanceTimersByTime(READ_DELAY)
    expect(marked).toEqual([])
  })

  it('is tried again with the next entry after a failure', async () => {
    const { marker, marked, state } = make({ fails: true })
    marker.seen(4)
    await vi.advanceTimersByTimeAsync(READ_DELAY)
    state.fails = false
    marker.seen(4)
    await vi.advanceTimersByTimeAsync(READ_DELAY)
    expect(marked).toEqual([4, 4])
  })
})

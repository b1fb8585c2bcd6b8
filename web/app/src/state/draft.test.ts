import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { DRAFT_LIMIT, DRAFT_PAUSE, DraftKeeper } from './draft'

beforeEach(() => vi.useFakeTimers())
afterEach(() => vi.useRealTimers())

function keeperOf(text = '', sent = text) {
  const send = vi.fn(async (_: string): Promise<unknown> => undefined)
  const keep = vi.fn()
  return { send, keep, keeper: new DraftKeeper({ send, keep }, text, sent) }
}

test('the local copy is written with every key, the server gets one text after a pause', async () => {
  const { keeper, send, keep } = keeperOf()
  for (const text of ['f', 'fi', 'fix']) keeper.type(text)
  expect(keep.mock.calls.map(([text]) => text as string)).toEqual(['f', 'fi', 'fix'])
  await vi.advanceTimersByTimeAsync(DRAFT_PAUSE - 1)
  expect(send).not.toHaveBeenCalled()
  await vi.advanceTimersByTimeAsync(1)
  expect(send.mock.calls).toEqual([['fix']])
  expect(keep).toHaveBeenLastCalledWith(undefined)
})

test('a text of the server is taken only while nothing typed here waits', async () => {
  const { keeper } = keeperOf('mine')
  expect(keeper.receive('theirs')).toBe(true)
  keeper.type('mine again')
  expect(keeper.receive('theirs too')).toBe(false)
  expect(keeper.text).toBe('mine again')
})

test('a late echo of what was typed before does not undo what is typed now', async () => {
  const { keeper } = keeperOf()
  keeper.type('ab')
  await vi.advanceTimersByTimeAsync(DRAFT_PAUSE)
  keeper.type('abc')
  await vi.advanceTimersByTimeAsync(DRAFT_PAUSE)
  expect(keeper.receive('ab')).toBe(false)
  expect(keeper.receive('abc')).toBe(false)
  expect(keeper.text).toBe('abc')
  expect(keeper.receive('from elsewhere')).toBe(true)
})

test('a text that could not be sent stays here and is sent with the next one', async () => {
  const { keeper, send, keep } = keeperOf()
  send.mockRejectedValueOnce(new Error('unavailable'))
  keeper.type('fix')
  await vi.advanceTimersByTimeAsync(DRAFT_PAUSE)
  expect(keeper.dirty).toBe(true)
  expect(keep).toHaveBeenLastCalledWith('fix')
  keeper.type('fix it')
  await vi.advanceTimersByTimeAsync(DRAFT_PAUSE)
  expect(send).toHaveBeenLastCalledWith('fix it')
  expect(keeper.dirty).toBe(false)
})

test('a text above the limit of drafts is kept here alone', async () => {
  const { keeper, send, keep } = keeperOf()
  keeper.type('ä'.repeat(DRAFT_LIMIT / 2 + 1))
  await vi.advanceTimersByTimeAsync(DRAFT_PAUSE)
  expect(send).not.toHaveBeenCalled()
  expect(keep).toHaveBeenCalledTimes(1)
})

test('a used draft is gone here and at the server', async () => {
  const { keeper, send, keep } = keeperOf('fix it')
  keeper.clear()
  await vi.advanceTimersByTimeAsync(0)
  expect(send.mock.calls).toEqual([['']])
  expect(keep).toHaveBeenCalledWith(undefined)
})

test('closing sends what waits, once', async () => {
  const { keeper, send } = keeperOf()
  keeper.type('fix')
  keeper.close()
  await vi.advanceTimersByTimeAsync(DRAFT_PAUSE * 2)
  expect(send.mock.calls).toEqual([['fix']])
})

/** A keeper whose sends are answered by hand, in the order they were made. */
function slowKeeper() {
  const sent: string[] = []
  const answers: (() => void)[] = []
  const send = (text: string) => {
    sent.push(text)
    return new Promise<void>((resolve) => answers.push(resolve))
  }
  const keeper = new DraftKeeper({ send, keep: vi.fn() }, '', '')
  const answer = async () => {
    answers.shift()?.()
    await vi.advanceTimersByTimeAsync(0)
  }
  return { keeper, sent, answer }
}

test('texts go to the server one after the other, so that an older one never overtakes a newer one', async () => {
  const { keeper, sent, answer } = slowKeeper()
  keeper.type('fix')
  await vi.advanceTimersByTimeAsync(DRAFT_PAUSE)
  keeper.type('fix it')
  await vi.advanceTimersByTimeAsync(DRAFT_PAUSE)
  expect(sent).toEqual(['fix'])
  await answer()
  expect(sent).toEqual(['fix', 'fix it'])
  await answer()
  expect(keeper.dirty).toBe(false)
})

test('a draft that is used while it is on its way to the server is gone there too', async () => {
  const { keeper, sent, answer } = slowKeeper()
  keeper.type('fix')
  await vi.advanceTimersByTimeAsync(DRAFT_PAUSE)
  keeper.clear()
  keeper.close()
  await answer()
  expect(sent).toEqual(['fix', ''])
})

test('a draft that is used after its field was closed is gone at the server', async () => {
  const { keeper, sent, answer } = slowKeeper()
  keeper.type('fix')
  keeper.close()
  await answer()
  keeper.clear()
  expect(sent).toEqual(['fix', ''])
})

test('the local copy goes when the server has the text although the answer was lost, so that it cannot come back later', async () => {
  const { keeper, send, keep } = keeperOf()
  send.mockRejectedValueOnce(new Error('the answer is lost'))
  keeper.type('fix')
  await vi.advanceTimersByTimeAsync(DRAFT_PAUSE)
  expect(keep).toHaveBeenLastCalledWith('fix')
  expect(keeper.receive('fix')).toBe(false)
  expect(keep).toHaveBeenLastCalledWith(undefined)
})

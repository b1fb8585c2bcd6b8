import { beforeEach, describe, expect, it, vi } from 'vitest'
import { byteLength, Draft, DRAFT_DELAY } from './draft'

beforeEach(() => {
  vi.useFakeTimers()
})

function make() {
  const saved: string[] = []
  let answer: (() => void) | undefined
  let refuse: ((error: Error) => void) | undefined
  const save = (text: string) => {
    saved.push(text)
    return new Promise<void>((resolve, reject) => {
      answer = resolve
      refuse = reject
    })
  }
  const settle = async (end: (() => void) | undefined) => {
    end?.()
    await vi.advanceTimersByTimeAsync(0)
  }
  const draft = new Draft({ save })
  return { draft, saved, answered: () => settle(answer), refused: () => settle(() => refuse?.(new Error('no'))) }
}

describe('a draft', () => {
  it('is saved once typing rests', () => {
    const { draft, saved } = make()
    draft.edit('H')
    vi.advanceTimersByTime(DRAFT_DELAY - 1)
    draft.edit('Hi')
    vi.advanceTimersByTime(DRAFT_DELAY - 1)
    expect(saved).toEqual([])
    vi.advanceTimersByTime(1)
    expect(saved).toEqual(['Hi'])
  })

  it('is saved at once when the field loses the focus', () => {
    const { draft, saved } = make()
    draft.edit('Hi')
    void draft.flush()
    expect(saved).toEqual(['Hi'])
  })

  it('is not saved when it is what the server has', () => {
    const { draft, saved } = make()
    draft.remote('Hi')
    draft.edit('Hi!')
    draft.edit('Hi')
    vi.advanceTimersByTime(DRAFT_DELAY)
    expect(saved).toEqual([])
  })

  it('takes what another tab typed while nothing here is unsaved', () => {
    const { draft } = make()
    draft.remote('from elsewhere')
    expect(draft.text).toBe('from elsewhere')
    draft.remote(undefined)
    expect(draft.text).toBe('')
  })

  it('keeps what is typed here when news come from elsewhere', () => {
    const { draft } = make()
    draft.edit('mine')
    draft.remote('theirs')
    expect(draft.text).toBe('mine')
  })

  it('that is emptied again takes away what came from elsewhere meanwhile', () => {
    const { draft, saved } = make()
    draft.edit('mine')
    draft.remote('theirs')
    draft.edit('')
    vi.advanceTimersByTime(DRAFT_DELAY)
    expect(saved).toEqual([''])
  })

  it('keeps what is typed here while it is being saved', async () => {
    const { draft, answered } = make()
    draft.edit('mine')
    void draft.flush()
    draft.remote('theirs')
    expect(draft.text).toBe('mine')
    await answered()
    expect(draft.status).toBe('kept')
  })

  it('takes the late echo of its own save for no news', async () => {
    const { draft, answered } = make()
    draft.edit('one')
    void draft.flush()
    await answered()
    draft.edit('two')
    void draft.flush()
    await answered()
    draft.remote('one')
    expect(draft.text).toBe('two')
    draft.remote('two')
    draft.remote('three')
    expect(draft.text).toBe('three')
  })

  it('saves what was typed during a save', async () => {
    const { draft, saved, answered } = make()
    draft.edit('one')
    void draft.flush()
    draft.edit('one two')
    await answered()
    vi.advanceTimersByTime(DRAFT_DELAY)
    expect(saved).toEqual(['one', 'one two'])
  })

  it('says that it is not saved after a failure, and tries again with the next word', async () => {
    const { draft, saved, refused } = make()
    draft.edit('one')
    void draft.flush()
    await refused()
    expect(draft.status).toBe('unsaved')
    draft.edit('one two')
    vi.advanceTimersByTime(DRAFT_DELAY)
    expect(saved).toEqual(['one', 'one two'])
  })

  it('is gone once the message is sent', () => {
    const { draft, saved } = make()
    draft.remote('Hi')
    draft.sent('Hi')
    expect(draft.text).toBe('')
    expect(saved).toEqual([''])
  })

  it('stays in the tab when it is longer than the server keeps', () => {
    const { draft, saved } = make()
    draft.edit('ä'.repeat(6 * 1024 + 1))
    vi.advanceTimersByTime(DRAFT_DELAY)
    expect(saved).toEqual([])
    expect(draft.status).toBe('too-long')
  })

  it('is saved when the field goes away', () => {
    const { draft, saved } = make()
    draft.edit('Hi')
    draft.dispose()
    expect(saved).toEqual(['Hi'])
    vi.advanceTimersByTime(DRAFT_DELAY)
    expect(saved).toEqual(['Hi'])
  })
})

describe('the size of a text', () => {
  it('is counted in bytes', () => {
    expect(byteLength('aä👩')).toBe(7)
  })

  it('is kept when the server has it although the answer was lost', async () => {
    const { draft, refused } = make()
    draft.edit('Hi')
    void draft.flush()
    await refused()
    expect(draft.status).toBe('unsaved')
    draft.remote('Hi')
    expect(draft.status).toBe('kept')
  })
})

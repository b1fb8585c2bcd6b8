import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Draft, DRAFT_DELAY, DRAFT_LIMIT } from './draft'

beforeEach(() => vi.useFakeTimers())
afterEach(() => vi.useRealTimers())

/** A draft whose saves the test answers, in the order they were made. */
function make() {
  const saved: string[] = []
  const answers: { resolve: () => void; reject: (error: Error) => void }[] = []
  const save = (text: string) => {
    saved.push(text)
    return new Promise<void>((resolve, reject) => answers.push({ resolve, reject }))
  }
  const settle = async (end: (() => void) | undefined) => {
    end?.()
    await vi.advanceTimersByTimeAsync(0)
  }
  return {
    draft: new Draft({ save }),
    saved,
    answered: () => settle(answers.shift()?.resolve),
    refused: () => settle(() => answers.shift()?.reject(new Error('no'))),
  }
}

/** A draft with a copy in this browser, whose saves succeed at once. */
function makeCopied(copy?: string, server?: string) {
  const save = vi.fn(async (_: string): Promise<unknown> => undefined)
  const write = vi.fn()
  let held = copy
  const hold = (text: string | undefined) => {
    held = text
    write(text)
  }
  const draft = new Draft({ save, copy: { read: () => held, write: hold } })
  draft.remote(server)
  write.mockClear()
  return { draft, save, write }
}

const rest = () => vi.advanceTimersByTimeAsync(DRAFT_DELAY)

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

  it('is saved at once, and once, when the field loses the focus or goes away', () => {
    const { draft, saved } = make()
    draft.edit('Hi')
    void draft.flush()
    expect(saved).toEqual(['Hi'])
    vi.advanceTimersByTime(DRAFT_DELAY)
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

  it('that is emptied again takes away what came from elsewhere since', () => {
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
    expect(draft.status).toBe('saving')
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

  it('saves what was typed during a save, also what the server had before it', async () => {
    const { draft, saved, answered } = make()
    draft.edit('one')
    void draft.flush()
    draft.edit('one two')
    await answered()
    await rest()
    expect(saved).toEqual(['one', 'one two'])
    draft.edit('one')
    await answered()
    await rest()
    expect(saved).toEqual(['one', 'one two', 'one'])
  })

  it('is saved one text after the other, so that an older one never overtakes a newer one', async () => {
    const { draft, saved, answered } = make()
    draft.edit('one')
    await rest()
    draft.edit('one two')
    await rest()
    expect(saved).toEqual(['one'])
    await answered()
    expect(saved).toEqual(['one', 'one two'])
    await answered()
    expect(draft.status).toBe('kept')
  })

  it('says that it is not saved after a failure, and tries again with the next word', async () => {
    const { draft, saved, refused } = make()
    draft.edit('one')
    void draft.flush()
    await refused()
    expect(draft.status).toBe('unsaved')
    draft.edit('one two')
    await rest()
    expect(saved).toEqual(['one', 'one two'])
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

  it('is gone once the message is sent, but for what was typed behind it', () => {
    const { draft, saved } = make()
    draft.remote('Hi')
    draft.sent('Hi')
    expect(draft.text).toBe('')
    expect(saved).toEqual([''])
    draft.edit('Hi there')
    draft.sent('Hi')
    expect(draft.text).toBe(' there')
  })

  it('that is used while it is on its way to the server is gone there too', async () => {
    const { draft, saved, answered } = make()
    draft.edit('fix')
    await rest()
    draft.clear()
    void draft.flush()
    await answered()
    expect(saved).toEqual(['fix', ''])
  })

  it('that is used after its field was closed is gone on the server', async () => {
    const { draft, saved, answered } = make()
    draft.edit('fix')
    void draft.flush()
    await answered()
    draft.clear()
    expect(saved).toEqual(['fix', ''])
  })

  it('stays in the tab when it is longer than the server keeps', () => {
    const { draft, saved } = make()
    draft.edit('ä'.repeat(DRAFT_LIMIT / 2 + 1))
    vi.advanceTimersByTime(DRAFT_DELAY)
    expect(saved).toEqual([])
    expect(draft.status).toBe('too-long')
  })

  it('goes along to a place without one, and stays beside another one', () => {
    const [from, empty, taken] = [make(), make(), make()]
    from.draft.edit('fix')
    taken.draft.remote('other words')
    taken.draft.inherit(from.draft)
    expect([from.draft.text, taken.draft.text]).toEqual(['fix', 'other words'])
    empty.draft.inherit(from.draft)
    expect([from.draft.text, empty.draft.text]).toEqual(['', 'fix'])
  })
})

describe('a draft with a copy in this browser', () => {
  it('writes it with every key, until the server has the text', async () => {
    const { draft, save, write } = makeCopied()
    for (const text of ['f', 'fi', 'fix']) draft.edit(text)
    expect(write.mock.calls).toEqual([['f'], ['fi'], ['fix']])
    await rest()
    expect(save.mock.calls).toEqual([['fix']])
    expect(write).toHaveBeenLastCalledWith(undefined)
  })

  it('begins with what an earlier page left there, which wins and is saved', async () => {
    const { draft, save, write } = makeCopied('mine', 'theirs')
    expect(draft.text).toBe('mine')
    draft.resume()
    await rest()
    expect(save.mock.calls).toEqual([['mine']])
    expect(write).toHaveBeenLastCalledWith(undefined)
  })

  it('keeps there that everything was taken away', () => {
    const { draft } = makeCopied('', 'theirs')
    expect(draft.text).toBe('')
    expect(draft.status).toBe('unsaved')
  })

  it('keeps there what could not be saved', async () => {
    const { draft, save, write } = makeCopied()
    save.mockRejectedValueOnce(new Error('unavailable'))
    draft.edit('fix')
    await rest()
    expect(write).toHaveBeenLastCalledWith('fix')
  })

  it('keeps there alone what is longer than the server keeps', async () => {
    const { draft, save, write } = makeCopied()
    draft.edit('ä'.repeat(DRAFT_LIMIT / 2 + 1))
    await rest()
    expect(save).not.toHaveBeenCalled()
    expect(write).toHaveBeenCalledTimes(1)
  })

  it('is gone there too when it is used, also if that cannot be saved', async () => {
    const { draft, save, write } = makeCopied(undefined, 'fix it')
    save.mockRejectedValueOnce(new Error('unavailable'))
    draft.clear()
    await rest()
    expect(save.mock.calls).toEqual([['']])
    expect(write).toHaveBeenLastCalledWith(undefined)
  })

  it('takes it away when the server has the text although the answer was lost, so that it cannot come back later', async () => {
    const { draft, save, write } = makeCopied()
    save.mockRejectedValueOnce(new Error('the answer is lost'))
    draft.edit('fix')
    await rest()
    expect(write).toHaveBeenLastCalledWith('fix')
    draft.remote('fix')
    expect(write).toHaveBeenLastCalledWith(undefined)
  })

  it('leaves there what another tab keeps', () => {
    let held: string | undefined
    const save = vi.fn(() => Promise.resolve())
    const write = (text: string | undefined) => {
      held = text
    }
    const draft = new Draft({ save, copy: { read: () => held, write } })
    held = 'of the other tab'
    draft.remote('what it had saved before')
    expect(draft.text).toBe('what it had saved before')
    expect(held).toBe('of the other tab')
  })
})

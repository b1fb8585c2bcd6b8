import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { CLEAR_RETRY, type Copied, copyInBrowser, Draft, DRAFT_DELAY, DRAFT_LIMIT, forgetDrafts } from './draft'

beforeEach(() => vi.useFakeTimers())
afterEach(() => vi.useRealTimers())

/** A draft whose saves the test answers, in the order they were made. */
function make() {
  const saved: string[] = []
  const answers: { resolve: (rev: bigint) => void; reject: (error: Error) => void }[] = []
  const save = (text: string) => {
    saved.push(text)
    return new Promise<bigint>((resolve, reject) => answers.push({ resolve, reject }))
  }
  const settle = async (end: () => void) => {
    end()
    await vi.advanceTimersByTimeAsync(0)
  }
  return {
    draft: new Draft({ save }),
    saved,
    answered: (rev = 1n) => settle(() => answers.shift()?.resolve(rev)),
    refused: () => settle(() => answers.shift()?.reject(new Error('no'))),
  }
}

/** A draft with a copy in this browser, whose saves succeed at once. */
function makeCopied(copy?: string, server?: string, bases: string[] = []) {
  const save = vi.fn(async (_: string) => 2n)
  const write = vi.fn()
  let held: Copied | undefined = copy === undefined ? undefined : { text: copy, bases }
  const hold = (copied: Copied | undefined) => {
    held = copied
    write(copied?.text)
  }
  const draft = new Draft({ save, copy: { read: () => held, write: hold } })
  draft.remote(server, 1n)
  write.mockClear()
  return { draft, save, write, held: () => held }
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
    draft.remote('Hi', 1n)
    draft.edit('Hi!')
    draft.edit('Hi')
    vi.advanceTimersByTime(DRAFT_DELAY)
    expect(saved).toEqual([])
  })

  it('takes what another tab typed while nothing here is unsaved', () => {
    const { draft } = make()
    draft.remote('from elsewhere', 1n)
    expect(draft.text).toBe('from elsewhere')
    draft.remote(undefined, 2n)
    expect(draft.text).toBe('')
  })

  it('keeps what is typed here when news come from elsewhere', () => {
    const { draft } = make()
    draft.edit('mine')
    draft.remote('theirs', 1n)
    expect(draft.text).toBe('mine')
  })

  it('that is emptied again takes away what came from elsewhere since', () => {
    const { draft, saved } = make()
    draft.edit('mine')
    draft.remote('theirs', 1n)
    draft.edit('')
    vi.advanceTimersByTime(DRAFT_DELAY)
    expect(saved).toEqual([''])
  })

  it('keeps what is typed here while it is being saved', async () => {
    const { draft, answered } = make()
    draft.edit('mine')
    void draft.flush()
    expect(draft.status).toBe('saving')
    draft.remote('theirs', 1n)
    expect(draft.text).toBe('mine')
    await answered(2n)
    expect(draft.text).toBe('mine')
    expect(draft.status).toBe('kept')
  })

  it('takes what came from elsewhere while it was being saved, if that is newer', async () => {
    const { draft, saved, answered } = make()
    draft.edit('mine')
    void draft.flush()
    draft.remote('theirs', 3n)
    expect(draft.text).toBe('mine')
    await answered(2n)
    expect(draft.text).toBe('theirs')
    expect(draft.status).toBe('kept')
    await rest()
    expect(saved).toEqual(['mine'])
  })

  it('keeps and saves what was typed during a save although something newer came from elsewhere', async () => {
    const { draft, saved, answered } = make()
    draft.edit('mine')
    void draft.flush()
    draft.edit('mine too')
    draft.remote('theirs', 3n)
    await answered(2n)
    expect(draft.text).toBe('mine too')
    await rest()
    expect(saved).toEqual(['mine', 'mine too'])
  })

  it('keeps what could not be saved, and knows what came from elsewhere during the attempt', async () => {
    const { draft, saved, refused } = make()
    draft.edit('mine')
    void draft.flush()
    draft.remote('theirs', 1n)
    await refused()
    expect(draft.text).toBe('mine')
    expect(draft.status).toBe('unsaved')
    draft.edit('')
    await rest()
    expect(saved).toEqual(['mine', ''])
  })

  it('is not replaced by an older text of another tab that is shown after it was saved', async () => {
    const { draft, answered } = make()
    draft.edit('mine')
    void draft.flush()
    await answered(2n)
    draft.remote('theirs', 1n)
    expect(draft.text).toBe('mine')
    expect(draft.status).toBe('kept')
    draft.remote('mine', 2n)
    draft.remote('theirs again', 3n)
    expect(draft.text).toBe('theirs again')
  })

  it('takes the late echo of its own save for no news', async () => {
    const { draft, answered } = make()
    draft.edit('one')
    void draft.flush()
    await answered(1n)
    draft.edit('two')
    void draft.flush()
    await answered(2n)
    draft.remote('one', 1n)
    expect(draft.text).toBe('two')
    draft.remote('two', 2n)
    draft.remote('three', 3n)
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
    draft.remote('Hi', 1n)
    expect(draft.status).toBe('kept')
  })

  it('is gone once the message is sent, but for what was typed behind it', () => {
    const { draft, saved } = make()
    draft.remote('Hi', 1n)
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

  it('that was sent is deleted again and again until the server has deleted it', async () => {
    const { draft, saved, answered, refused } = make()
    draft.remote('Hi', 1n)
    draft.sent('Hi')
    await refused()
    await vi.advanceTimersByTimeAsync(CLEAR_RETRY)
    await refused()
    draft.remote('Hi', 2n)
    await vi.advanceTimersByTimeAsync(CLEAR_RETRY)
    expect(saved).toEqual(['', ''])
    await vi.advanceTimersByTimeAsync(CLEAR_RETRY)
    expect(saved).toEqual(['', '', ''])
    await answered(3n)
    await vi.advanceTimersByTimeAsync(100 * CLEAR_RETRY)
    expect([saved.length, draft.text, draft.status]).toEqual([3, '', 'kept'])
  })

  it('that was sent but could not be deleted gives way to what came from elsewhere since', async () => {
    const { draft, saved, refused } = make()
    draft.remote('Hi', 1n)
    draft.sent('Hi')
    await refused()
    draft.remote('Hi', 2n)
    draft.remote('theirs', 3n)
    expect(draft.text).toBe('theirs')
    await vi.advanceTimersByTimeAsync(100 * CLEAR_RETRY)
    expect(saved).toEqual([''])
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
    taken.draft.remote('other words', 1n)
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

  it.each([[[]], [['theirs']], [['', 'theirs']]])(
    'begins with what an earlier page left there, which wins over its base %j',
    async (bases) => {
      const { draft, save, write } = makeCopied('mine', 'theirs', bases)
      expect(draft.text).toBe('mine')
      draft.resume()
      await rest()
      expect(save.mock.calls).toEqual([['mine']])
      expect(write).toHaveBeenLastCalledWith(undefined)
    },
  )

  it('gives up what an earlier page left there when the server got something else since', async () => {
    const { draft, save, held } = makeCopied('mine', 'theirs', ['', 'mi'])
    expect([draft.text, draft.status, held()]).toEqual(['theirs', 'kept', undefined])
    draft.resume()
    await rest()
    expect(save).not.toHaveBeenCalled()
    expect(makeCopied('mine', undefined, ['mi']).draft.text).toBe('')
  })

  it('does not save what an earlier page left there before the draft on the server is known', async () => {
    const save = vi.fn(async (_: string) => 2n)
    const draft = new Draft({ save, copy: { read: () => ({ text: 'mine', bases: [''] }), write: vi.fn() } })
    draft.resume()
    await rest()
    expect([save.mock.calls, draft.text, draft.status]).toEqual([[], 'mine', 'unsaved'])
    draft.remote('', 1n)
    await rest()
    expect(save.mock.calls).toEqual([['mine']])
  })

  it('lists there what the server may have: its text before, and what was sent since without an answer', async () => {
    const save = vi.fn((_: string) => Promise.reject(new Error('the answer is lost')))
    let held: Copied | undefined
    const write = (copied: Copied | undefined) => {
      held = copied
    }
    const draft = new Draft({ save, copy: { read: () => held, write } })
    draft.remote('f', 1n)
    for (const text of ['fi', 'fix', 'fix it', 'fix it ', 'fix it!']) {
      draft.edit(text)
      await rest()
    }
    expect(held).toEqual({ text: 'fix it!', bases: ['f', 'fix it', 'fix it ', 'fix it!'] })
    draft.remote('theirs', 2n)
    expect(held).toEqual({ text: 'fix it!', bases: ['theirs'] })
  })

  it('gives up what an earlier page left there once another field has saved or sent it', async () => {
    const save = vi.fn(async (_: string) => 3n)
    let held: Copied | undefined = { text: 'Hi', bases: [''] }
    const draft = new Draft({ save, copy: { read: () => held, write: (copied) => (held = copied) } })
    draft.remote('', 1n)
    draft.resume()
    held = undefined
    await rest()
    expect(save).not.toHaveBeenCalled()
    expect(draft.text).toBe('')
    draft.remote('Hi there', 2n)
    expect(draft.text).toBe('Hi there')
  })

  it('keeps nothing there once everything was taken away, which would delete a newer text later', async () => {
    const { draft, save, write } = makeCopied(undefined, 'theirs')
    save.mockRejectedValueOnce(new Error('unavailable'))
    draft.edit('mine')
    draft.edit('')
    await rest()
    expect(save.mock.calls).toEqual([['']])
    expect(write.mock.calls).toEqual([['mine'], [undefined]])
    expect(makeCopied('', 'theirs').draft.text).toBe('theirs')
  })

  it('gives way to a newer text from another device once it was saved', async () => {
    const { draft, write } = makeCopied()
    draft.edit('mine')
    await rest()
    draft.remote('theirs', 3n)
    expect(draft.text).toBe('theirs')
    expect(write).toHaveBeenLastCalledWith(undefined)
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
    draft.edit('fix it now')
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
    draft.remote('fix', 2n)
    expect(write).toHaveBeenLastCalledWith(undefined)
  })

  it('leaves there what another tab keeps', () => {
    let held: Copied | undefined
    const save = vi.fn(() => Promise.resolve(2n))
    const write = (copied: Copied | undefined) => {
      held = copied
    }
    const draft = new Draft({ save, copy: { read: () => held, write } })
    held = { text: 'of the other tab', bases: [] }
    draft.remote('what it had saved before', 1n)
    expect(draft.text).toBe('what it had saved before')
    expect(held?.text).toBe('of the other tab')
    draft.sent('what it had saved before')
    expect(draft.text).toBe('')
    expect(held?.text).toBe('of the other tab')
  })

  it('leaves no older text there when there was no room for the one that was saved', async () => {
    let held: Copied | undefined
    let full = false
    const write = (copied: Copied | undefined) => {
      if (copied === undefined || !full) held = copied
    }
    const draft = new Draft({ save: () => Promise.resolve(2n), copy: { read: () => held, write } })
    draft.edit('f')
    full = true
    draft.edit('fix')
    expect(held?.text).toBe('f')
    await rest()
    expect(held).toBeUndefined()
  })
})

describe('the copies in this browser', () => {
  it('are apart for each name, and gone when the person signs out', () => {
    const [one, other] = [copyInBrowser('usr_1/org_1/ses_1'), copyInBrowser('usr_2/org_1/ses_1')]
    one.write({ text: 'Hi', bases: [''] })
    expect([one.read(), other.read()]).toEqual([{ text: 'Hi', bases: [''] }, undefined])
    forgetDrafts()
    expect(one.read()).toBeUndefined()
  })

  it('of older pages, which stored the text alone, are read as made from something unknown', () => {
    for (const text of ['Hi', '{"text":1}', '7', 'null']) {
      localStorage.setItem('foundry-draft/usr_1/org_1/ses_1', text)
      expect(copyInBrowser('usr_1/org_1/ses_1').read()).toEqual({ text, bases: [] })
    }
    forgetDrafts()
  })

  it('are none where the storage is forbidden, and the draft is saved as ever', async () => {
    const forbidden = () => {
      throw new Error('forbidden')
    }
    vi.stubGlobal('localStorage', { getItem: forbidden, setItem: forbidden, removeItem: forbidden })
    const save = vi.fn(async (_: string) => 1n)
    const draft = new Draft({ save, copy: copyInBrowser('usr_1/org_1/ses_1') })
    draft.edit('Hi')
    await rest()
    vi.unstubAllGlobals()
    expect(save.mock.calls).toEqual([['Hi']])
    expect(draft.status).toBe('kept')
  })
})

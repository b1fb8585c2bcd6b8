import { create } from '@bufbuild/protobuf'
import { Code, FoundryError } from '@foundry/client'
import { AttachmentSchema, type Attachment } from '@foundry/client/gen/foundry/common/v1/transcript_pb'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { cleanName, MAX_FILE_BYTES, Uploads, type Put } from './uploads'

const file = (name: string, bytes = 'content', type = '') => new File([bytes], name, { type })
const stored = (attachmentId: string, name: string): Attachment => create(AttachmentSchema, { attachmentId, name })
const states = (uploads: Uploads) => uploads.get().map(({ name, state }) => `${name} ${state}`)

beforeEach(() => {
  let made = 0
  URL.createObjectURL = vi.fn(() => `blob:${++made}`)
  URL.revokeObjectURL = vi.fn()
})

describe('files of a message', () => {
  it('are sent at once, and given to the message that has them', async () => {
    const put = vi.fn<Put>(async (_, name) => stored(`att_${name}`, name))
    const uploads = new Uploads(put)
    uploads.add([file('a.png', 'x', 'image/png'), file('b.txt')])
    expect(states(uploads)).toEqual(['a.png sending', 'b.txt sending'])
    await vi.waitFor(() => expect(states(uploads)).toEqual(['a.png sent', 'b.txt sent']))
    expect(uploads.get().map((each) => each.preview)).toEqual(['blob:1', undefined])
    uploads.taken(['att_a.png'])
    expect(states(uploads)).toEqual(['b.txt sent'])
    expect(URL.revokeObjectURL).toHaveBeenCalledWith('blob:1')
  })

  it('that fail can be sent again under the same request id', async () => {
    const answers = [
      () => Promise.reject(new FoundryError({ code: Code.Unavailable, message: 'lost', retryable: true })),
      () => Promise.resolve(stored('att_1', 'a')),
    ]
    const ids: string[] = []
    const uploads = new Uploads((requestId) => {
      ids.push(requestId)
      return answers.shift()!()
    })
    uploads.add([file('a')])
    await vi.waitFor(() => expect(uploads.get()[0]).toMatchObject({ state: 'failed', retryable: true }))
    uploads.retry(uploads.get()[0]!.key)
    await vi.waitFor(() => expect(states(uploads)).toEqual(['a sent']))
    expect(new Set(ids).size).toBe(1)
  })

  it('that are too large, empty or too many are refused without being sent', async () => {
    const put = vi.fn<Put>(async (_, name) => stored(name, name))
    const uploads = new Uploads(put)
    uploads.add([file('large', 'x'.repeat(MAX_FILE_BYTES + 1)), file('empty', '')])
    await vi.waitFor(() => expect(states(uploads)).toEqual(['large failed', 'empty failed']))
    expect(put).not.toHaveBeenCalled()
    expect(uploads.add(Array.from({ length: 12 }, (_, i) => file(`${i}`)))).toEqual({ refused: 4 })
    expect(uploads.get()).toHaveLength(10)
  })

  it('that are taken out on their way are given up and tell nothing afterwards', async () => {
    let given: AbortSignal | undefined
    const uploads = new Uploads(
      (_, __, ___, signal) =>
        new Promise((_resolve, reject) => {
          given = signal
          signal.addEventListener('abort', () => reject(new Error('aborted')))
        }),
    )
    uploads.add([file('a')])
    await vi.waitFor(() => expect(given).toBeDefined())
    uploads.remove(uploads.get()[0]!.key)
    expect(given?.aborted).toBe(true)
    await Promise.resolve()
    expect(uploads.get()).toEqual([])
  })

  it('have names that the server takes', () => {
    expect(cleanName('a/b\\c\u0000\u202e.png')).toBe('abc.png')
    expect(cleanName('..')).toBe('file')
    expect(cleanName(' ')).toBe('file')
    expect(new TextEncoder().encode(cleanName('ä'.repeat(5_000) + '.png')).length).toBeLessThanOrEqual(200)
    expect(cleanName('ä'.repeat(5_000) + '.png').endsWith('.png')).toBe(true)
  })
})

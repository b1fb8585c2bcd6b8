import { create } from '@bufbuild/protobuf'
import { Code, FoundryError } from '@foundry/client'
import { AttachmentSchema, TranscriptPartSchema } from '@foundry/client/gen/foundry/common/v1/transcript_pb'
import { SessionState, TaskState, TranscriptEntrySchema } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { act, fireEvent, screen, waitFor, within } from '@testing-library/react'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { aMessage, aSession, aTask } from './test/fakeTask'
import { made, message, openTask, prepare, write } from './test/openTask'

vi.mock('@mantine/hooks', async (original) => ({ ...(await original<typeof import('@mantine/hooks')>()), useMediaQuery: () => false }))
beforeEach(() => {
  prepare()
  URL.createObjectURL = vi.fn(() => 'blob:made')
  URL.revokeObjectURL = vi.fn()
})

const png = (name: string) => new File(['x'], name, { type: 'image/png' })
const attached = () => screen.queryAllByRole('listitem').filter((each) => each.closest('[aria-label="Attached files"]') !== null)
const stored = (id: string, rest = {}) =>
  create(AttachmentSchema, { attachmentId: id, name: `${id}.png`, mediaType: 'image/png', size: 7n, ...rest })

function attach(files: File[]): void {
  const input = document.querySelector<HTMLInputElement>('input[type="file"]')
  if (input === null) throw new Error('there is no field for files')
  fireEvent.change(input, { target: { files } })
}

describe('files in the composer', () => {
  it('keep a message from being sent until they are there, and go with it', async () => {
    let arrive: (() => void) | undefined
    const putAttachment = () => new Promise((resolve) => (arrive = () => resolve({ attachment: stored('att_1') })))
    const world = openTask({
      calls: { sendMessage: () => ({ message: aMessage('msg_1', 'look'), rev: 1n }) },
      attachments: { putAttachment },
    })
    write('look')
    attach([png('a.png')])
    await waitFor(() => expect(arrive).toBeDefined())
    fireEvent.keyDown(message(), { key: 'Enter' })
    expect(made(world, 'sendMessage')).toEqual([])
    expect(screen.getByRole('button', { name: 'Send' })).toHaveProperty('disabled', true)
    await act(async () => arrive?.())
    await waitFor(() => expect(screen.getByRole('button', { name: 'Send' })).toHaveProperty('disabled', false))
    fireEvent.keyDown(message(), { key: 'Enter' })
    await waitFor(() => expect(made(world, 'sendMessage')).toMatchObject([{ text: 'look', attachmentIds: ['att_1'] }]))
    await waitFor(() => expect(attached()).toHaveLength(0))
  })

  it('are pasted and dropped, also without words, and pasted text stays text', async () => {
    let count = 0
    const putAttachment = () => ({ attachment: stored(`att_${++count}`) })
    const world = openTask({ calls: { sendMessage: () => ({ message: aMessage('msg_1', ''), rev: 1n }) }, attachments: { putAttachment } })
    fireEvent.paste(message(), { clipboardData: { files: [png('image.png')], types: ['Files'] } })
    fireEvent.paste(message(), { clipboardData: { files: [png('of-a-table.png')], types: ['text/plain', 'Files'] } })
    fireEvent.drop(message(), { dataTransfer: { files: [png('dropped.png')], types: ['Files'] } })
    // A file dropped next to the field is not added, and does not replace the page.
    expect(fireEvent.drop(document.body, { dataTransfer: { files: [png('beside.png')], types: ['Files'] } })).toBe(false)
    await waitFor(() => expect(attached()).toHaveLength(2))
    await waitFor(() => expect(screen.getByRole('button', { name: 'Send' })).toHaveProperty('disabled', false))
    fireEvent.click(screen.getByRole('button', { name: 'Send' }))
    await waitFor(() => expect(made(world, 'sendMessage')).toMatchObject([{ text: '', attachmentIds: ['att_1', 'att_2'] }]))
  })

  it('that were refused say why and keep the message until they are removed', async () => {
    const putAttachment = () => {
      throw new FoundryError({ code: Code.ResourceExhausted, reason: 'LIMIT_REACHED', message: 'no room is left' })
    }
    openTask({ attachments: { putAttachment } })
    write('look')
    attach([png('a.png')])
    await screen.findByText(/No room is left/)
    expect(screen.getByRole('button', { name: 'Send' })).toHaveProperty('disabled', true)
    fireEvent.click(screen.getByRole('button', { name: 'Remove a.png' }))
    expect(screen.getByRole('button', { name: 'Send' })).toHaveProperty('disabled', false)
  })

  it('of a waiting message are shown and can be taken out', async () => {
    const waiting = aMessage('msg_1', 'look', { attachments: [stored('att_1'), stored('att_2')] })
    const world = openTask({
      task: aTask({ state: TaskState.RUNNING }),
      sessions: [aSession({ state: SessionState.RUNNING })],
      queue: [waiting],
      calls: { getQueuedMessage: () => ({ message: waiting, text: 'look' }), updateQueuedMessage: () => ({ message: waiting, rev: 2n }) },
    })
    expect(await screen.findByText('2 files')).toBeDefined()
    fireEvent.click(screen.getByRole('button', { name: 'Edit this message' }))
    fireEvent.click(await screen.findByRole('button', { name: 'Remove att_1.png' }))
    fireEvent.click(screen.getByRole('button', { name: 'Save' }))
    await waitFor(() =>
      expect(made(world, 'updateQueuedMessage')).toMatchObject([{ text: 'look', attachments: { attachmentIds: ['att_2'] } }]),
    )
  })
})

describe('files in the transcript', () => {
  const entry = (offset: bigint, body: object) =>
    create(TranscriptEntrySchema, {
      offset,
      sessionId: 'ses_1',
      part: create(TranscriptPartSchema, { messageId: 'msg_1', blockId: `b${offset}`, body: body as never }),
    })
  const shown = (attachment: object, toolCallId = '') => ({ case: 'agentFile', value: { attachment, toolCallId } })

  it('are pictures of an address of the page, and everything else is named', async () => {
    const getAttachment = ({ attachmentId }: { attachmentId: string }) => {
      if (attachmentId === 'att_gone') throw new FoundryError({ code: Code.NotFound, reason: 'NOT_FOUND', message: 'gone' })
      return { attachment: stored(attachmentId), content: new Uint8Array([1]) }
    }
    const world = openTask({
      entries: [
        entry(1n, { case: 'userMessage', value: { text: 'look', userId: 'usr_1', attachments: [stored('att_mine')] } }),
        entry(2n, shown(stored('att_1'))),
        entry(3n, shown(stored('att_gone'))),
        entry(4n, shown(stored('att_svg', { name: 'evil.svg', mediaType: 'image/svg+xml' }), 't1')),
        entry(5n, shown({ name: 'huge.png', mediaType: 'image/png', size: 9_000_000n, reason: 'ATTACHMENT_TOO_LARGE' })),
      ],
      attachments: { getAttachment: getAttachment as never },
    })
    const log = screen.getByRole('log', { name: 'Transcript' })
    const mine = within(await within(log).findByRole('list', { name: 'Files of this message' }))
    const picture = await mine.findByRole('img', { name: 'att_mine.png' })
    expect(picture.getAttribute('src')).toBe('blob:made')
    expect(await within(log).findByText('The file was deleted.')).toBeDefined()
    expect(within(log).getByText('Not stored: too large')).toBeDefined()
    expect(within(log).getByRole('button', { name: 'Save evil.svg' })).toBeDefined()
    const read = world.fake.made
      .filter((call) => call.method === 'getAttachment')
      .map((call) => (call.request as { attachmentId: string }).attachmentId)
    expect(read).not.toContain('att_svg')
    fireEvent.click(mine.getByRole('button', { name: 'Enlarge picture att_mine.png' }))
    expect(await screen.findByRole('dialog', { name: 'att_mine.png' })).toBeDefined()
  })
})

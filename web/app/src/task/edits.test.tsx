import { SessionState } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { act, fireEvent, render, screen, waitFor } from '@testing-library/react'
import { MantineProvider } from '@mantine/core'
import { beforeEach, expect, it, vi } from 'vitest'
import { errorText, forgetToasts, Toaster } from '../ui'
import { aMessage, aSession, entry } from './test/fakeTask'
import { openTask, prepare } from './test/openTask'

vi.mock('@mantine/hooks', async (original) => ({ ...(await original<typeof import('@mantine/hooks')>()), useMediaQuery: () => false }))
beforeEach(prepare)
beforeEach(forgetToasts)

const running = aSession({ state: SessionState.RUNNING })
const toaster = () =>
  render(
    <MantineProvider env="test">
      <Toaster />
    </MantineProvider>,
  )

async function edit(text: string | undefined) {
  const world = openTask({
    sessions: [running],
    queue: [aMessage('msg_2', 'Then the README')],
    calls: { getQueuedMessage: () => ({ text: 'Then the README' }) },
  })
  toaster()
  fireEvent.click(screen.getByRole('button', { name: 'Edit this message' }))
  const field = await screen.findByRole('textbox', { name: 'Message text' })
  if (text !== undefined) fireEvent.change(field, { target: { value: text } })
  return world
}

it('a change of a message that the agent gets meanwhile is not lost without a word', async () => {
  const writeText = vi.spyOn(navigator.clipboard, 'writeText').mockResolvedValue()
  const world = await edit('Then the tests')
  act(() => world.showSession(running, [], [aMessage('msg_2', 'Then the README', { state: 2 })]))
  expect(screen.getByText('The change to a queued message was not saved')).toBeTruthy()
  fireEvent.click(screen.getByRole('button', { name: 'Copy your text' }))
  expect(writeText).toHaveBeenCalledWith('Then the tests')
})

it('a change that is cancelled, or none, is no loss', async () => {
  const world = await edit(undefined)
  act(() => world.showSession(running, [], ['msg_2']))
  expect(screen.queryByText('The change to a queued message was not saved')).toBeNull()
})

it('a change that is cancelled gives the focus back to its button', async () => {
  await edit('Then the tests')
  fireEvent.click(screen.getByRole('button', { name: 'Cancel' }))
  expect(screen.queryByText('The change to a queued message was not saved')).toBeNull()
  await waitFor(() => expect(document.activeElement).toBe(screen.getByRole('button', { name: 'Edit this message' })))
})

it('a title that was changed or not gives the focus back to its button', async () => {
  openTask({})
  fireEvent.click(screen.getByRole('button', { name: 'Rename the task' }))
  fireEvent.click(screen.getByRole('button', { name: 'Cancel' }))
  await waitFor(() => expect(document.activeElement).toBe(screen.getByRole('button', { name: 'Rename the task' })))
})

it('what a failure tells of others is shown and turns nothing', () => {
  expect(errorText(new Error('no branch a\u202eb')).message).toBe('No branch a⟦RLO⟧b.')
})

it('what was opened in the transcript is still open when it comes back onto the screen', async () => {
  const call = { toolCallId: 'call-1', kind: 'read', title: 'Read a file', input: 'a.rs', output: 'the content', state: 3 }
  const many = Array.from({ length: 150 }, (_, at) =>
    entry(at + 2, { case: 'agentMessage', value: { text: `entry ${at}` } }, { blockId: `b${at}` }),
  )
  const world = openTask({ sessions: [aSession({ lastOffset: 1n })], entries: [entry(1, { case: 'toolCall', value: call })] })
  fireEvent.click(await screen.findByRole('button', { name: /Read a file/, expanded: false }))
  expect(screen.getByText('the content')).toBeTruthy()
  act(() => world.showSession(aSession({ lastOffset: 151n }), many))
  const log = screen.getByRole('log')
  fireEvent.scroll(log, { target: { scrollTop: 8000 } })
  await waitFor(() => expect(screen.queryByText('the content')).toBeNull())
  fireEvent.scroll(log, { target: { scrollTop: 0 } })
  await waitFor(() => expect(screen.getByRole('button', { name: /Read a file/ }).getAttribute('aria-expanded')).toBe('true'))
})

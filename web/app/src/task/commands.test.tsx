import { Code, FoundryError } from '@foundry/client'
import { WorkNoticeKind } from '@foundry/client/gen/foundry/common/v1/work_pb'
import { SessionState, TaskState } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { act, fireEvent, screen, waitFor, within } from '@testing-library/react'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { aSession, aTask } from './test/fakeTask'
import { toastStore } from '../ui/toast'
import { made, message, openTask, prepare, write } from './test/openTask'

vi.mock('@mantine/hooks', async (original) => ({ ...(await original<typeof import('@mantine/hooks')>()), useMediaQuery: () => false }))
beforeEach(prepare)

const lost = () => {
  throw new FoundryError({ code: Code.Unavailable, reason: 'DRAINING', message: 'the answer is lost', retryable: true })
}
const running = aSession({ state: SessionState.RUNNING })
const idsOf = (requests: Record<string, unknown>[]) => requests.map((it) => it['requestId'])

describe('a repeated command', () => {
  it('that stops a turn is another one for another turn, also when the first answer was lost', async () => {
    const world = openTask({ task: aTask({ state: TaskState.RUNNING }), sessions: [running], calls: { stopTurn: lost } })
    fireEvent.keyDown(message(), { key: 'Escape' })
    await screen.findByText('The turn was not stopped')
    act(() => world.showSession(aSession({ state: SessionState.IDLE })))
    expect(screen.queryByText('The turn was not stopped')).toBeNull()
    act(() => world.showSession(running))
    fireEvent.keyDown(message(), { key: 'Escape' })
    await waitFor(() => expect(made(world, 'stopTurn')).toHaveLength(2))
    const [first, second] = idsOf(made(world, 'stopTurn'))
    expect(second).not.toBe(first)
  })

  it('that fails after its question was closed says so at once, and not at the next question', async () => {
    let fail = () => {}
    const archiveTask = () =>
      new Promise((_, reject) => {
        fail = () => reject(new FoundryError({ code: Code.Unavailable, reason: 'DRAINING', message: 'late' }))
      })
    openTask({ task: aTask({ state: TaskState.IDLE }), calls: { archiveTask } })
    const ask = async (what: string, title: string) => {
      fireEvent.click(screen.getByRole('button', { name: 'More actions' }))
      fireEvent.click(await screen.findByRole('menuitem', { name: what }))
      return within(await screen.findByRole('dialog', { name: title }))
    }
    const first = await ask('Archive…', 'Archive this task?')
    fireEvent.click(first.getByRole('button', { name: 'Archive' }))
    fireEvent.click(first.getByRole('button', { name: 'Cancel' }))
    await act(async () => fail())
    expect(toastStore.get().map((it) => it.title)).toContain('The task was not archived')
    const again = await ask('Archive…', 'Archive this task?')
    expect(again.queryByText('The action failed')).toBeNull()
  })

  it('that ends the sandbox says what only the sandbox has', async () => {
    const notices = [
      { kind: WorkNoticeKind.STASH, count: 2n },
      { kind: WorkNoticeKind.LINE_ENDINGS, count: 1n, path: 'a.txt' },
      { kind: WorkNoticeKind.LARGE_IGNORED, count: 70n << 20n, path: 'model.bin' },
    ]
    openTask({ task: aTask({ state: TaskState.IDLE, changes: { notices } }) })
    for (const [what, title] of [
      ['Archive…', 'Archive this task?'],
      ['Kill…', 'Kill this task?'],
    ] as const) {
      fireEvent.click(screen.getByRole('button', { name: 'More actions' }))
      fireEvent.click(await screen.findByRole('menuitem', { name: what }))
      const dialog = within(await screen.findByRole('dialog', { name: title }))
      const lost = within(dialog.getByRole('list', { name: 'What is lost' })).getAllByRole('listitem')
      expect(lost.map((it) => it.textContent)).toEqual([
        '2 stashes are not part of the work.Ask the agent to apply what it has stashed.',
        'model.bin (70.0 MiB) is ignored by git and in the sandbox alone.Ask the agent to make it smaller, or to copy it to where it is kept; it ends with the sandbox.',
      ])
      fireEvent.click(dialog.getByRole('button', { name: 'Cancel' }))
    }
  })

  it('that stops a turn is another one for another session', async () => {
    const second = aSession({ sessionId: 'ses_2', name: 'Second', state: SessionState.RUNNING, createTime: { seconds: 9n } })
    const world = openTask({
      task: aTask({ state: TaskState.RUNNING }),
      sessions: [running, second],
      calls: { stopTurn: () => new Promise(() => {}) },
    })
    fireEvent.click(screen.getByRole('button', { name: 'Stop turn' }))
    fireEvent.click(screen.getByRole('tab', { name: /Second/ }))
    fireEvent.click(screen.getByRole('button', { name: 'Stop turn' }))
    await waitFor(() => expect(made(world, 'stopTurn')).toMatchObject([{ sessionId: 'ses_1' }, { sessionId: 'ses_2' }]))
    expect(new Set(idsOf(made(world, 'stopTurn'))).size).toBe(2)
  })

  it('that closes a session is another one for another session, and its failure is forgotten', async () => {
    const second = aSession({ sessionId: 'ses_2', name: 'Second', createTime: { seconds: 9n } })
    const world = openTask({ sessions: [aSession(), second], calls: { closeSession: lost } })
    const close = async () => {
      fireEvent.click(screen.getByRole('button', { name: 'Session menu' }))
      fireEvent.click(await screen.findByRole('menuitem', { name: 'Close session…' }))
      return within(await screen.findByRole('dialog', { name: 'Close this session?' }))
    }
    const dialog = await close()
    fireEvent.click(dialog.getByRole('button', { name: 'Close session' }))
    await dialog.findByText('The action failed')
    fireEvent.click(dialog.getByRole('button', { name: 'Cancel' }))
    fireEvent.click(screen.getByRole('tab', { name: /Second/ }))
    const other = await close()
    expect(other.queryByText('The action failed')).toBeNull()
    fireEvent.click(other.getByRole('button', { name: 'Close session' }))
    await waitFor(() => expect(made(world, 'closeSession')).toMatchObject([{ sessionId: 'ses_1' }, { sessionId: 'ses_2' }]))
    expect(new Set(idsOf(made(world, 'closeSession'))).size).toBe(2)
  })

  it('that retries a task is another one when the task failed again', async () => {
    const failed = aTask({ state: TaskState.ERROR })
    const world = openTask({ task: failed, calls: { retryTask: lost } })
    fireEvent.click(screen.getByRole('button', { name: 'Retry' }))
    await waitFor(() => expect(made(world, 'retryTask')).toHaveLength(1))
    act(() => world.showTask(aTask({ state: TaskState.QUEUED }), [aSession()]))
    act(() => world.showTask(failed, [aSession()]))
    fireEvent.click(screen.getByRole('button', { name: 'Retry' }))
    await waitFor(() => expect(made(world, 'retryTask')).toHaveLength(2))
    expect(new Set(idsOf(made(world, 'retryTask'))).size).toBe(2)
  })

  it('that sends the same words is another message once the field was emptied', async () => {
    const world = openTask({ calls: { sendMessage: lost } })
    write('continue')
    fireEvent.keyDown(message(), { key: 'Enter' })
    await screen.findByText('The message was not sent')
    write('')
    expect(screen.queryByText('The message was not sent')).toBeNull()
    write('continue')
    fireEvent.keyDown(message(), { key: 'Enter' })
    await waitFor(() => expect(made(world, 'sendMessage')).toHaveLength(2))
    expect(new Set(idsOf(made(world, 'sendMessage'))).size).toBe(2)
  })
})

describe('a message', () => {
  it('that was typed on while it was sent leaves what was typed since', async () => {
    let answer: (value: unknown) => void = () => {}
    const world = openTask({ calls: { sendMessage: () => new Promise((resolve) => (answer = resolve)) } })
    write('Hello')
    fireEvent.keyDown(message(), { key: 'Enter' })
    await waitFor(() => expect(made(world, 'sendMessage')).toHaveLength(1))
    write('Hello and more')
    await act(async () => answer({ rev: 2n }))
    expect((message() as HTMLTextAreaElement).value).toBe(' and more')
  })

  it('is not stopped by the Escape that ends the input of a character', () => {
    const world = openTask({ task: aTask({ state: TaskState.RUNNING }), sessions: [running], calls: { stopTurn: () => ({}) } })
    fireEvent.keyDown(message(), { key: 'Escape', isComposing: true })
    expect(made(world, 'stopTurn')).toEqual([])
  })
})

describe('a question of the agent', () => {
  const options = [
    { optionId: 'yes', name: 'Allow', kind: 'allow_once' },
    { optionId: 'no', name: 'Reject', kind: 'reject_once' },
  ]
  const asks = aSession({ state: SessionState.RUNNING, pendingPermission: { permissionId: 'perm-1', title: 'cargo test', options } })
  const dock = () => screen.getByRole('region', { name: 'The agent is asking for permission' })

  it('is answered once, also while the answer is on its way back', async () => {
    const world = openTask({ sessions: [asks], calls: { respondToPermission: () => ({}) } })
    fireEvent.click(within(dock()).getByRole('button', { name: /Reject/ }))
    await screen.findByText('Answered. The agent is continuing.')
    fireEvent.keyDown(dock(), { key: '1' })
    fireEvent.click(within(dock()).getByRole('button', { name: /Allow/ }))
    expect(made(world, 'respondToPermission')).toMatchObject([{ permissionId: 'perm-1', optionId: 'no' }])
  })

  it('can be answered again when the answer was not taken', async () => {
    const world = openTask({ sessions: [asks], calls: { respondToPermission: lost } })
    fireEvent.click(within(dock()).getByRole('button', { name: /Reject/ }))
    await screen.findByText('The answer was not sent')
    fireEvent.keyDown(dock(), { key: '1' })
    await waitFor(() => expect(made(world, 'respondToPermission')).toMatchObject([{ optionId: 'no' }, { optionId: 'yes' }]))
  })

  it('gives the focus to the field of messages when it goes, if it had it', async () => {
    const world = openTask({ sessions: [asks], calls: { respondToPermission: () => ({}) } })
    const button = within(dock()).getByRole('button', { name: /Reject/ })
    button.focus()
    fireEvent.click(button)
    await screen.findByText('Answered. The agent is continuing.')
    act(() => world.showSession(running))
    await waitFor(() => expect(document.activeElement).toBe(message()))
  })
})

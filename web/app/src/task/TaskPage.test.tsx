import { create } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import { Code, FoundryError, topics } from '@foundry/client'
import { FoundryProvider } from '@foundry/client/react'
import { ConditionSchema, StageState } from '@foundry/client/gen/foundry/common/v1/common_pb'
import { SessionState, TaskState, UserStateItemSchema } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { MantineProvider } from '@mantine/core'
import { act, cleanup, fireEvent, render, screen, waitFor, within } from '@testing-library/react'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { TaskPage } from './TaskPage'
import { aMessage, aSession, aTask, entry, FakeTask } from './test/fakeTask'
import { calm, made, message, openTask, prepare, write } from './test/openTask'

vi.mock('@mantine/hooks', async (original) => ({ ...(await original<typeof import('@mantine/hooks')>()), useMediaQuery: () => false }))

beforeEach(prepare)

describe('the task page', () => {
  it('shows what stage a new task is at, from the first moment on', () => {
    const stages = [
      { name: 'sandbox_allocated', state: StageState.DONE },
      { name: 'repo_prepared', state: StageState.RUNNING, message: 'cloning, 40 %', attempts: 2 },
    ]
    openTask({
      task: aTask({ state: TaskState.CREATING_SANDBOX, stages }),
      sessions: [aSession({ state: SessionState.PENDING_PROVISION })],
    })
    const list = screen.getByRole('region', { name: 'Provisioning' })
    expect(within(list).getByText('Prepare repository')).toBeTruthy()
    expect(within(list).getByText('cloning, 40 %')).toBeTruthy()
    expect(within(list).getByText('attempt 2')).toBeTruthy()
  })

  it('offers to retry a task that failed, and says why it failed', async () => {
    const stages = [{ name: 'repo_prepared', state: StageState.FAILED, reason: 'GIT_AUTH_REQUIRED', message: 'no credentials' }]
    const condition = {
      reason: 'GIT_AUTH_REQUIRED',
      message: 'the repository asks for credentials',
      retryable: true,
      nextAction: 'give it some',
    }
    const world = openTask({ task: aTask({ state: TaskState.ERROR, stages, condition }), calls: { retryTask: () => ({}) } })
    expect(screen.getByText('The repository asks for credentials.')).toBeTruthy()
    fireEvent.click(screen.getByRole('button', { name: 'Retry from this stage' }))
    await waitFor(() => expect(made(world, 'retryTask')).toHaveLength(1))
  })

  it.each([SessionState.RUNNING, SessionState.IDLE])(
    'says what is wrong with the model of a session in state %i, and what to do',
    (state) => {
      const condition = {
        reason: 'MODEL_KEY_REFUSED',
        message: 'the key was refused',
        waitingOn: 'model provider work',
        nextAction: 'set a valid key',
      }
      openTask({ task: aTask({ state: TaskState.RUNNING }), sessions: [aSession({ state, condition })] })
      for (const words of ['The key was refused.', 'Set a valid key.', 'MODEL_KEY_REFUSED']) expect(screen.getByText(words)).toBeTruthy()
    },
  )

  it('says that a task started on an old base, why, and what to do', () => {
    const notices = [{ reason: 'BASE_NOT_FETCHED', message: 'the base is 12 minutes old', nextAction: 'check the remote' }]
    openTask({ task: aTask({ base: { commit: 'abc', notices } }) })
    for (const words of ['The base is 12 minutes old.', 'Check the remote.', 'BASE_NOT_FETCHED'])
      expect(screen.getByText(words)).toBeTruthy()
  })

  it('shows that the branch of a task is looked for, and what stands in the way', () => {
    const condition = { waitingOn: 'the branch at the remote', message: 'the branch x is not known here yet' }
    const pending = { state: TaskState.PENDING_BRANCH, branch: 'x', baseBranch: 'x', existingBranch: true }
    openTask({ task: aTask({ ...pending, condition }) })
    for (const words of ['Looking for its branch', 'existing branch', 'the branch at the remote'])
      expect(screen.getByText(words)).toBeTruthy()
    expect(screen.queryByText('from')).toBeNull()
    cleanup()
    openTask({ task: aTask({ ...pending, condition: { ...condition, reason: 'GIT_REMOTE_UNREACHABLE', message: 'nobody answers' } }) })
    expect(screen.getByText('Nobody answers.')).toBeTruthy()
  })

  it('takes a message for a session that is not ready', async () => {
    const world = openTask({
      task: aTask({ state: TaskState.QUEUED }),
      sessions: [aSession({ state: SessionState.PENDING_PROVISION })],
      calls: { sendMessage: () => ({ message: aMessage('msg_2', 'Hello') }) },
    })
    write('Hello')
    fireEvent.keyDown(message(), { key: 'Enter' })
    await waitFor(() => expect(made(world, 'sendMessage')).toMatchObject([{ sessionId: 'ses_1', text: 'Hello' }]))
    await waitFor(() => expect((message() as HTMLTextAreaElement).value).toBe(''))
  })

  it('begins a new line with Shift and Enter', () => {
    const world = openTask({})
    write('Hello')
    fireEvent.keyDown(message(), { key: 'Enter', shiftKey: true })
    expect(made(world, 'sendMessage')).toEqual([])
  })

  it('sends a message again under the same request id after a failure, and keeps its text', async () => {
    let fails = true
    const world = openTask({
      calls: {
        sendMessage: () => {
          if (fails)
            throw new FoundryError({ code: Code.Unavailable, reason: 'DRAINING', message: 'the service is stopping', retryable: true })
          return { message: aMessage('msg_2', 'Hello') }
        },
      },
    })
    write('Hello')
    fireEvent.keyDown(message(), { key: 'Enter' })
    await screen.findByText('The message was not sent')
    expect((message() as HTMLTextAreaElement).value).toBe('Hello')
    fails = false
    fireEvent.click(screen.getByRole('button', { name: 'Try again' }))
    await waitFor(() => expect(made(world, 'sendMessage')).toHaveLength(2))
    const [first, second] = made(world, 'sendMessage')
    expect(first?.requestId).toBeTruthy()
    expect(second?.requestId).toBe(first?.requestId)
  })

  it('sends no message that is longer than a message may be', () => {
    const world = openTask({})
    write('ä'.repeat(130 * 1024))
    fireEvent.keyDown(message(), { key: 'Enter' })
    expect(made(world, 'sendMessage')).toEqual([])
    expect(screen.getByText('260.0 KiB of 256 KiB')).toBeTruthy()
  })

  it('shows the draft that another tab typed', async () => {
    const world = openTask({})
    const draft = create(UserStateItemSchema, { item: { case: 'draft', value: { subject: 'ses_1', text: 'from elsewhere' } } })
    act(() => world.fake.show(topics.userState('org_1'), [['draft/ses_1', draft]]))
    await waitFor(() => expect((message() as HTMLTextAreaElement).value).toBe('from elsewhere'))
  })

  it('has a text that is too long for a draft again when the person comes back, until it is sent', async () => {
    const long = 'x'.repeat(13 * 1024)
    const typed = () => (message() as HTMLTextAreaElement).value
    openTask({})
    write(long)
    expect(screen.getByText('Over 12 KiB: in this browser only')).toBeTruthy()
    cleanup()
    openTask({ calls: { sendMessage: () => ({ message: aMessage('msg_2', long) }) } })
    expect(typed()).toBe(long)
    fireEvent.keyDown(message(), { key: 'Enter' })
    await waitFor(() => expect(typed()).toBe(''))
    cleanup()
    openTask({})
    expect(typed()).toBe('')
  })

  it('stops the turn with Escape, once', async () => {
    const world = openTask({
      task: aTask({ state: TaskState.RUNNING }),
      sessions: [aSession({ state: SessionState.RUNNING })],
      calls: { stopTurn: () => new Promise(() => {}) },
    })
    fireEvent.keyDown(message(), { key: 'Escape' })
    fireEvent.keyDown(message(), { key: 'Escape' })
    await waitFor(() => expect(made(world, 'stopTurn')).toMatchObject([{ sessionId: 'ses_1' }]))
  })

  it('answers the agent with the options it gives', async () => {
    const request = {
      permissionId: 'perm-1',
      title: 'cargo test',
      options: [
        { optionId: 'yes', name: 'Allow', kind: 'allow_once' },
        { optionId: 'no', name: 'Reject', kind: 'reject_once' },
      ],
    }
    const world = openTask({
      sessions: [aSession({ state: SessionState.RUNNING, pendingPermission: request })],
      calls: { respondToPermission: () => ({}) },
    })
    const dock = screen.getByRole('region', { name: 'The agent is asking for permission' })
    fireEvent.click(within(dock).getByRole('button', { name: /Reject/ }))
    await waitFor(() => expect(made(world, 'respondToPermission')).toMatchObject([{ permissionId: 'perm-1', optionId: 'no' }]))
  })

  it('lets viewers read and nothing else', () => {
    openTask({ role: 1, sessions: [aSession({ state: SessionState.RUNNING })], queue: [aMessage('msg_2', 'waits')] })
    expect(screen.queryByRole('textbox', { name: 'Message' })).toBeNull()
    expect(screen.queryByRole('button', { name: /Stop|Remove|Edit|Rename/ })).toBeNull()
    expect(screen.getByText('waits')).toBeTruthy()
  })

  it('keeps everything readable when the task has ended', () => {
    openTask({
      task: aTask({ state: TaskState.KILLED }),
      entries: [entry(1, { case: 'agentMessage', value: { text: 'still here' } }, { blockId: 'a' })],
    })
    expect(screen.getByText('still here')).toBeTruthy()
    expect(screen.queryByRole('textbox', { name: 'Message' })).toBeNull()
  })

  it('says why a task cannot be shown', () => {
    const world = new FakeTask(calm)
    const broken = new FoundryError({
      code: Code.Internal,
      reason: 'INTERNAL',
      message: 'the store is full',
      nextAction: 'free some space',
    })
    world.fake.show(topics.task('task_1'), [], 'ended', broken)
    render(
      <MantineProvider env="test">
        <FoundryProvider client={world.client}>
          <TaskPage organizationId="org_1" taskId="task_1" />
        </FoundryProvider>
      </MantineProvider>,
    )
    expect(screen.getByRole('alert').textContent).toContain('The store is full.')
    const gone = new FoundryError({ code: Code.NotFound, reason: 'NOT_FOUND', message: 'no task task_1', nextAction: '' })
    act(() => world.fake.show(topics.task('task_1'), [], 'ended', gone))
    expect(screen.getByRole('heading', { name: 'Task not found' })).toBeTruthy()
    expect(screen.getByRole('link', { name: 'Go to your tasks' }).getAttribute('href')).toBe('/o/org_1')
  })
})

describe('the queue', () => {
  it('shows what waits and removes it on demand', async () => {
    const world = openTask({
      sessions: [aSession({ state: SessionState.RUNNING })],
      queue: [aMessage('msg_2', 'Then the README')],
      calls: { removeQueuedMessage: () => ({}) },
    })
    fireEvent.click(screen.getByRole('button', { name: 'Remove this message' }))
    await waitFor(() => expect(made(world, 'removeQueuedMessage')).toMatchObject([{ messageId: 'msg_2' }]))
    act(() => world.showSession(aSession({ state: SessionState.RUNNING }), [], ['msg_2']))
    await waitFor(() => expect(screen.queryByText('Then the README')).toBeNull())
  })

  it('reads the whole text of a message before it is changed', async () => {
    const world = openTask({
      queue: [aMessage('msg_2', 'Then', { textSize: 15n })],
      calls: { getQueuedMessage: () => ({ text: 'Then the README' }), updateQueuedMessage: () => ({}) },
    })
    fireEvent.click(screen.getByRole('button', { name: 'Edit this message' }))
    const field = await screen.findByRole('textbox', { name: 'Message text' })
    expect((field as HTMLTextAreaElement).value).toBe('Then the README')
    fireEvent.change(field, { target: { value: 'Then the tests' } })
    fireEvent.click(screen.getByRole('button', { name: 'Save' }))
    await waitFor(() => expect(made(world, 'updateQueuedMessage')).toMatchObject([{ messageId: 'msg_2', text: 'Then the tests' }]))
  })

  it('says that it is held, and lets it go on', async () => {
    const world = openTask({
      sessions: [aSession({ queueHeld: true })],
      queue: [aMessage('msg_2', 'waits')],
      calls: { resumeQueue: () => ({}) },
    })
    fireEvent.click(screen.getByRole('button', { name: 'Resume' }))
    await waitFor(() => expect(made(world, 'resumeQueue')).toMatchObject([{ sessionId: 'ses_1' }]))
  })

  it('says that messages wait for the quota of the model, and lets them go at once', async () => {
    const condition = create(ConditionSchema, {
      reason: 'MODEL_QUOTA',
      message: 'used up',
      nextAttemptTime: timestampFromDate(new Date(Date.now() + 3_600_000)),
    })
    const world = openTask({ sessions: [aSession({ state: SessionState.RUNNING, condition })], calls: { resumeQueue: () => ({}) } })
    fireEvent.click(screen.getByRole('button', { name: 'Resume now' }))
    await waitFor(() => expect(made(world, 'resumeQueue')).toMatchObject([{ sessionId: 'ses_1' }]))
  })

  it('offers no change of a message that the agent is getting', () => {
    openTask({ queue: [aMessage('msg_2', 'waits', { state: 2 })] })
    expect(screen.getByText('Delivering…')).toBeTruthy()
    expect(screen.queryByRole('button', { name: 'Edit this message' })).toBeNull()
  })
})

describe('a message on its way', () => {
  it('is shown until the queue has it, and does not come back when it is removed', async () => {
    const world = openTask({ sessions: [aSession({ state: SessionState.RUNNING })], calls: { sendMessage: () => ({ rev: 2n }) } })
    write('Then the README')
    fireEvent.keyDown(message(), { key: 'Enter' })
    const waiting = await screen.findByRole('region', { name: 'Queued messages' })
    expect(within(waiting).getByText('Then the README')).toBeTruthy()
    const running = aSession({ state: SessionState.RUNNING })
    act(() => world.showSession(running, [], [aMessage('msg_2', 'Then the README')]))
    await waitFor(() => expect(within(waiting).getAllByText('Then the README')).toHaveLength(1))
    act(() => world.showSession(running, [], ['msg_2']))
    await waitFor(() => expect(screen.queryByText('Then the README')).toBeNull())
  })
})

describe('sessions', () => {
  const second = aSession({ sessionId: 'ses_2', name: 'Second', lastOffset: 3n, createTime: { seconds: 9n } })

  it('are tabs that arrow keys move between, marked while there is something unread', () => {
    openTask({ sessions: [aSession(), second] })
    const [first, other] = screen.getAllByRole('tab', { name: /First|Second/ })
    expect(within(other as HTMLElement).getByRole('img', { name: 'unread' })).toBeTruthy()
    fireEvent.keyDown(first as HTMLElement, { key: 'ArrowRight' })
    expect(document.activeElement).toBe(other)
  })

  it('watch the selected one alone', () => {
    const world = openTask({ sessions: [aSession(), second] })
    const subscribed = vi.spyOn(world.client, 'subscribe')
    fireEvent.click(screen.getByRole('tab', { name: /Second/ }))
    const watched = subscribed.mock.calls.map(([topic]) => topic.kind).filter((kind) => kind === 'session')
    expect(watched).toHaveLength(1)
  })
})

describe('the address', () => {
  it('names the session and the panel that are shown, for a reload', () => {
    history.replaceState(null, '', '/o/org_1/t/task_1?session=ses_2&panel=none')
    openTask({ sessions: [aSession(), aSession({ sessionId: 'ses_2', name: 'Second' })] })
    expect(screen.getByRole('tab', { name: 'Second', selected: true })).toBeTruthy()
    expect(screen.queryByRole('tab', { name: 'Changes' })).toBeNull()
    fireEvent.click(screen.getByRole('button', { name: 'Show files' }))
    expect(location.search).toBe('?session=ses_2&panel=files')
    expect(document.title).toBe('Greet people by name · Foundry')
  })
})

describe('the transcript', () => {
  it('starts with the last 200 entries and reads older ones when they are wanted', async () => {
    const all = Array.from({ length: 500 }, (_, at) =>
      entry(at + 1, { case: 'agentMessage', value: { text: `entry ${at + 1}` } }, { blockId: `b${at}` }),
    )
    const world = openTask({
      sessions: [aSession({ lastOffset: 500n })],
      entries: all,
      calls: {
        listTranscript: (request: { fromOffset: bigint; pageSize: number }) => ({
          entries: all.slice(Number(request.fromOffset) - 1, Number(request.fromOffset) - 1 + request.pageSize),
        }),
      },
    })
    fireEvent.scroll(screen.getByRole('log'), { target: { scrollTop: 0 } })
    await waitFor(() => expect(made(world, 'listTranscript')).toMatchObject([{ fromOffset: 101n, pageSize: 200 }]))
  })
})

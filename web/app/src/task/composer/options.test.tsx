import { create } from '@bufbuild/protobuf'
import { AgentOptionsSchema } from '@foundry/client/gen/foundry/common/v1/offer_pb'
import { ElicitationAction, ElicitationFieldKind, ElicitationRequestSchema } from '@foundry/client/gen/foundry/common/v1/elicitation_pb'
import { SessionState, TaskState } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { act, fireEvent, screen, waitFor, within } from '@testing-library/react'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { aSession, aTask, entry } from '../test/fakeTask'
import { made, message, openTask, prepare, write } from '../test/openTask'
import { costText } from './OptionBar'

vi.mock('@mantine/hooks', async (original) => ({ ...(await original<typeof import('@mantine/hooks')>()), useMediaQuery: () => false }))
beforeEach(prepare)

const options = (more: { value?: string; wanted?: string; reason?: string } = {}) =>
  create(AgentOptionsSchema, {
    options: [
      {
        optionId: 'mode',
        name: 'Mode',
        category: 'mode',
        value: more.value ?? 'ask',
        wanted: more.wanted ?? '',
        condition:
          more.wanted === undefined ? undefined : { reason: more.reason ?? '', message: 'the agent refuses it', waitingOn: 'the agent' },
        choices: [
          { value: 'ask', name: 'Ask' },
          { value: 'plan', name: 'Plan' },
        ],
      },
    ],
    commands: [
      { name: 'plan', description: 'Makes a plan', hint: 'what' },
      { name: 'pull', description: 'Pulls' },
      { name: 'review', description: '\u202eevil\u0007' },
    ],
  })

const mode = () => screen.getByRole('combobox', { name: 'Mode' }) as HTMLSelectElement

describe('the settings of an agent', () => {
  it('are chosen, wait for the agent, and say when it refuses', async () => {
    const world = openTask({ sessions: [aSession({ options: options() })], calls: { setSessionOption: () => ({ rev: 1n }) } })
    fireEvent.change(mode(), { target: { value: 'plan' } })
    await waitFor(() => expect(made(world, 'setSessionOption')).toMatchObject([{ sessionId: 'ses_1', optionId: 'mode', value: 'plan' }]))
    expect([mode().value, mode().getAttribute('aria-busy')]).toEqual(['plan', 'true'])
    act(() => world.showSession(aSession({ options: options({ wanted: 'plan', reason: 'OPTION_REFUSED' }) })))
    expect([mode().value, mode().getAttribute('aria-invalid')]).toEqual(['ask', 'true'])
    await screen.findByText(/Plan: the agent refuses it/)
    act(() => world.showSession(aSession({ options: options({ value: 'plan' }) })))
    expect([mode().value, mode().getAttribute('aria-busy'), mode().getAttribute('aria-invalid')]).toEqual(['plan', 'false', 'false'])
  })

  it('take the choice that was made last while another one was being sent', async () => {
    const answers: (() => void)[] = []
    const setSessionOption = () => new Promise((resolve) => answers.push(() => resolve({ rev: 1n })))
    const world = openTask({ sessions: [aSession({ options: options() })], calls: { setSessionOption } })
    const sent = () => made(world, 'setSessionOption')
    fireEvent.change(mode(), { target: { value: 'plan' } })
    await waitFor(() => expect(sent()).toHaveLength(1))
    fireEvent.change(mode(), { target: { value: 'ask' } })
    act(() => world.showSession(aSession({ options: options({ wanted: 'plan' }) })))
    expect([mode().value, sent().length]).toEqual(['ask', 1])
    act(() => answers[0]!())
    await waitFor(() => expect(sent()).toMatchObject([{ value: 'plan' }, { value: 'ask' }]))
    act(() => world.showSession(aSession({ options: options({ value: 'ask' }) })))
    expect([mode().value, mode().getAttribute('aria-busy')]).toEqual(['ask', 'false'])
  })

  it('are shown and cannot be changed by those who only read', () => {
    openTask({ sessions: [aSession({ options: options() })], role: 1 })
    expect(screen.queryByRole('combobox', { name: 'Mode' })).toBeNull()
  })

  it('stand beside what the agent says of its context and cost', () => {
    openTask({ sessions: [aSession({ usage: { used: 50_000n, size: 200_000n, costMicros: 45_500n, currency: 'USD' } })] })
    expect(screen.getByText(/Context 25 %/).textContent).toContain('$0.0455')
    expect(costText(1, 'not a currency')).toBe('')
  })
})

describe('the commands of an agent', () => {
  const commands = () => screen.queryAllByRole('option', { hidden: true }).filter((it) => it.tagName === 'LI')

  it('are completed with the keyboard and told inertly', () => {
    openTask({ sessions: [aSession({ options: options() })], calls: { sendMessage: () => ({ rev: 1n }) } })
    fireEvent.focus(message())
    write('/')
    expect(commands()).toHaveLength(3)
    expect(commands()[2]?.textContent).toContain('⟦RLO⟧evil␇')
    write('/pl')
    expect(commands()).toHaveLength(1)
    write('/p')
    fireEvent.keyDown(message(), { key: 'ArrowDown' })
    const active = message().getAttribute('aria-activedescendant')
    expect(document.getElementById(active ?? '')?.textContent).toContain('/pull')
    fireEvent.keyDown(message(), { key: 'Tab' })
    expect((message() as HTMLTextAreaElement).value).toBe('/pull ')
    expect(commands()).toHaveLength(0)
  })

  it('are closed by Escape without stopping the turn, and a whole name is sent by Enter', async () => {
    const world = openTask({
      task: aTask({ state: TaskState.RUNNING }),
      sessions: [aSession({ state: SessionState.RUNNING, options: options() })],
      calls: { stopTurn: () => ({}), sendMessage: () => ({ rev: 1n }) },
    })
    fireEvent.focus(message())
    write('/rev')
    fireEvent.keyDown(message(), { key: 'Escape' })
    expect(commands()).toHaveLength(0)
    expect(made(world, 'stopTurn')).toHaveLength(0)
    write('/review')
    fireEvent.keyDown(message(), { key: 'Enter' })
    await waitFor(() => expect(made(world, 'sendMessage')).toMatchObject([{ text: '/review' }]))
  })
})

describe('a form of the agent', () => {
  const form = create(ElicitationRequestSchema, {
    elicitationId: 'form-1',
    message: 'How shall I release?',
    fields: [
      { name: 'name', title: 'Name', kind: ElicitationFieldKind.TEXT, required: true },
      { name: 'kind', kind: ElicitationFieldKind.CHOICE, choices: [{ value: 'a', name: 'Plan A' }, { value: 'b' }], defaultValues: ['b'] },
      { name: 'areas', kind: ElicitationFieldKind.CHOICES, choices: [{ value: 'x' }, { value: 'y' }] },
      { name: 'sure', kind: ElicitationFieldKind.BOOLEAN, defaultValues: ['true'] },
      { name: 'count', kind: ElicitationFieldKind.INTEGER, minimum: 1 },
    ],
  })
  const running = aSession({ state: SessionState.RUNNING, pendingElicitation: form })

  it('is filled in, wants what is required, and is sent once', async () => {
    const world = openTask({
      task: aTask({ state: TaskState.RUNNING }),
      sessions: [running],
      calls: { respondToElicitation: () => ({ rev: 1n }) },
    })
    const dock = within(await screen.findByRole('region', { name: 'The agent is asking a question' }))
    fireEvent.click(dock.getByRole('button', { name: 'Send answer' }))
    await dock.findByText('This field is required')
    expect(made(world, 'respondToElicitation')).toHaveLength(0)
    fireEvent.change(dock.getByRole('textbox', { name: /Name/ }), { target: { value: 'one' } })
    fireEvent.click(dock.getByRole('checkbox', { name: 'y' }))
    fireEvent.click(dock.getByRole('button', { name: 'Send answer' }))
    await waitFor(() => expect(made(world, 'respondToElicitation')).toHaveLength(1))
    expect(made(world, 'respondToElicitation')).toMatchObject([
      {
        sessionId: 'ses_1',
        elicitationId: 'form-1',
        action: ElicitationAction.ACCEPT,
        values: [
          { name: 'name', values: ['one'] },
          { name: 'kind', values: ['b'] },
          { name: 'areas', values: ['y'] },
          { name: 'sure', values: ['true'] },
        ],
      },
    ])
    await dock.findByText('Answered. The agent is continuing.')
  })

  it('can be declined, and the transcript tells what was filled in', async () => {
    const asked = entry(1, { case: 'elicitationRequest', value: form })
    const answered = entry(2, {
      case: 'elicitationAnswer',
      value: { elicitationId: 'form-1', action: ElicitationAction.ACCEPT, values: [{ name: 'kind', values: ['a'] }] },
    })
    const world = openTask({
      task: aTask({ state: TaskState.RUNNING }),
      sessions: [running],
      entries: [asked],
      calls: { respondToElicitation: () => ({ rev: 1n }) },
    })
    fireEvent.click(await screen.findByRole('button', { name: 'Decline' }))
    await waitFor(() => expect(made(world, 'respondToElicitation')).toMatchObject([{ action: ElicitationAction.DECLINE, values: [] }]))
    act(() => world.showSession(aSession({ lastOffset: 2n }), [answered]))
    await screen.findByText('kind: Plan A')
  })
})

describe('the title of an agent', () => {
  it('is the name of a session that nobody named', () => {
    openTask({
      sessions: [
        aSession({ name: 'main', agentTitle: 'Mend the parser' }),
        aSession({ sessionId: 'ses_2', name: 'Mine', agentTitle: 'Other', createTime: { seconds: 9n } }),
      ],
    })
    expect(screen.getAllByRole('tab').map((it) => it.textContent)).toEqual(expect.arrayContaining(['Mend the parser', 'Mine']))
  })
})

import { topics } from '@foundry/client'
import { FoundryProvider } from '@foundry/client/react'
import { MantineProvider } from '@mantine/core'
import { act, fireEvent, render, screen, waitFor } from '@testing-library/react'
import { beforeEach, expect, test } from 'vitest'
import { OrganizationProvider } from '../../state/organization'
import { FakeFoundry, shellItems, type FakeCalls } from '../../test/fakeFoundry'
import { marks, organizationOf, repository } from '../../test/summaries'
import { FrameContext, type Frame } from '../frame'
import { NewTaskDialog } from './NewTaskDialog'

beforeEach(() => {
  localStorage.clear()
  history.replaceState(null, '', '/o/org_1')
})

const nothing = () => {}
const frame: Frame = {
  newTask: nothing,
  addRepository: nothing,
  showShortcuts: nothing,
  showEvents: nothing,
  closeDrawer: nothing,
  canWrite: true,
  canAdminister: true,
}
const calm: FakeCalls = {
  task: { updateDraft: () => ({ rev: 9n }) },
  repo: { listBranches: () => ({ branches: [] }) },
  provisioner: { listAgents: () => ({ agents: [] }), listProviders: () => ({ providers: [] }) },
  profile: {
    listAgentProfiles: () => ({ profiles: [], nextPageToken: '' }),
    listModelProviders: () => ({ modelProviders: [], nextPageToken: '' }),
  },
}

function open(calls: FakeCalls = {}, canWrite = true, chosen: { repositoryId?: string; onBranch?: string } = {}) {
  const fake = new FakeFoundry({ ...calm, ...calls, task: { ...calm.task, ...calls.task } })
  fake.show(topics.appShell(), shellItems([{ id: 'org_1', name: 'acme', role: 4 }]))
  fake.show(topics.organization('org_1'), organizationOf([repository('repo_1', 'foundry'), repository('repo_2', 'orchard')], []))
  fake.show(topics.userState('org_1'), marks({}))
  const page = (dialog: boolean) => (
    <MantineProvider env="test">
      <FoundryProvider client={fake.client}>
        <OrganizationProvider organizationId="org_1">
          <FrameContext.Provider value={{ ...frame, canWrite }}>
            {dialog && <NewTaskDialog {...chosen} onClose={() => rerender(page(false))} />}
          </FrameContext.Provider>
        </OrganizationProvider>
      </FoundryProvider>
    </MantineProvider>
  )
  const { rerender } = render(page(true))
  return fake
}

const made = (fake: FakeFoundry, method: string) => fake.made.filter((it) => it.method === method).map((it) => it.request)
const prompt = () => screen.getByLabelText<HTMLTextAreaElement>('Prompt')
const choose = async (name: string) => {
  fireEvent.click(screen.getByRole('combobox', { name: 'Repository' }))
  fireEvent.click(await screen.findByRole('option', { name }))
}

test('what was typed goes along when another repository is chosen', async () => {
  const fake = open()
  fireEvent.change(prompt(), { target: { value: 'Fix it' } })
  await choose('orchard')
  await waitFor(() => expect(screen.getByRole<HTMLInputElement>('combobox', { name: 'Repository' }).value).toBe('orchard'))
  expect(prompt().value).toBe('Fix it')
  await waitFor(() =>
    expect(made(fake, 'updateDraft')).toContainEqual({ organizationId: 'org_1', subject: 'new_task/repo_2', text: 'Fix it' }),
  )
  await waitFor(() => expect(made(fake, 'updateDraft').at(-1)).not.toMatchObject({ subject: 'new_task/repo_1', text: 'Fix it' }))
})

test('who closes the dialog while the task is created stays where they are, and the draft is used up', async () => {
  let answer: (value: unknown) => void = nothing
  const fake = open({ task: { createTask: () => new Promise((resolve) => (answer = resolve)) } })
  fireEvent.change(prompt(), { target: { value: 'Fix it' } })
  fireEvent.keyDown(prompt(), { key: 'Enter', ctrlKey: true })
  await waitFor(() => expect(made(fake, 'createTask')).toHaveLength(1))
  fireEvent.click(screen.getByRole('button', { name: 'Cancel' }))
  await act(async () => answer({ task: { taskId: 'task_9' } }))
  expect(location.pathname).toBe('/o/org_1')
  await waitFor(() => expect(made(fake, 'updateDraft').at(-1)).toMatchObject({ text: '' }))
})

test('the branches of another repository are not offered while those of the chosen one are read', async () => {
  const fake = open({
    repo: {
      listBranches: ({ repositoryId }: { repositoryId: string }) =>
        repositoryId === 'repo_1' ? { branches: [{ name: 'only-here' }] } : new Promise(nothing),
    },
  })
  fireEvent.click(screen.getByRole('combobox', { name: 'Base branch' }))
  await screen.findByRole('option', { name: 'only-here' })
  await choose('orchard')
  await waitFor(() => expect(made(fake, 'listBranches')).toHaveLength(2))
  fireEvent.click(screen.getByRole('combobox', { name: 'Base branch' }))
  await waitFor(() => expect(screen.queryByRole('option', { name: 'only-here' })).toBeNull())
})

const working = { listBranches: () => ({ branches: [{ name: 'main' }, { name: 'feature-x' }] }) }
const send = () => fireEvent.keyDown(prompt(), { key: 'Enter', ctrlKey: true })

test('a task goes to an existing branch that is chosen, or typed, and to none as long as it is not named', async () => {
  const fake = open({ repo: working, task: { createTask: () => new Promise(nothing) } })
  fireEvent.change(prompt(), { target: { value: 'Go on' } })
  fireEvent.click(screen.getByRole('radio', { name: 'Existing branch' }))
  send()
  expect(await screen.findByText('Choose the branch to work on')).toBeTruthy()
  const field = screen.getByRole<HTMLInputElement>('combobox', { name: 'Branch to work on' })
  fireEvent.click(field)
  fireEvent.click(await screen.findByRole('option', { name: 'feature-x' }))
  expect(field.value).toBe('feature-x')
  fireEvent.change(field, { target: { value: 'not/known' } })
  send()
  await waitFor(() => expect(made(fake, 'createTask')).toHaveLength(1))
  expect(made(fake, 'createTask')[0]).toMatchObject({ onBranch: 'not/known', baseBranch: '' })
})

test('the branch that the dialog was opened on is chosen until another repository is', async () => {
  const fake = open({ repo: working, task: { createTask: () => new Promise(nothing) } }, true, {
    repositoryId: 'repo_1',
    onBranch: 'feature-x',
  })
  const field = () => screen.getByRole<HTMLInputElement>('combobox', { name: 'Branch to work on' })
  expect(field().value).toBe('feature-x')
  await choose('orchard')
  await waitFor(() => expect(field().value).toBe(''))
  await choose('foundry')
  fireEvent.click(screen.getByRole('radio', { name: 'New branch' }))
  fireEvent.change(prompt(), { target: { value: 'Go on' } })
  send()
  await waitFor(() => expect(made(fake, 'createTask')).toHaveLength(1))
  expect(made(fake, 'createTask')[0]).toMatchObject({ onBranch: '', baseBranch: '' })
})

test('viewers are told that they cannot create a task', () => {
  const fake = open({}, false)
  expect(screen.getByText('Viewers cannot create tasks; members of the organization can.')).toBeTruthy()
  expect(screen.queryByRole('button', { name: /Create task/ })).toBeNull()
  expect(made(fake, 'createTask')).toEqual([])
})

test('the default profile is chosen from the first and goes along by its id, with its policy', async () => {
  const profiles = [
    { profileId: 'prf_1', settings: { name: 'day', agent: 'demo', model: '', isDefault: false } },
    { profileId: 'prf_2', settings: { name: 'night', agent: 'claude', model: 'm1', permissionPolicy: 2, isDefault: true } },
  ]
  const fake = open({
    profile: { ...calm.profile, listAgentProfiles: () => ({ profiles, nextPageToken: '' }) },
    task: { createTask: () => new Promise(nothing) },
  })
  const field = await screen.findByRole<HTMLInputElement>('combobox', { name: 'Agent or profile' })
  expect(field.value).toBe('night (claude, m1)')
  expect(screen.getByRole<HTMLInputElement>('radio', { name: 'Allow all' }).checked).toBe(true)
  fireEvent.change(prompt(), { target: { value: 'Fix it' } })
  fireEvent.keyDown(prompt(), { key: 'Enter', ctrlKey: true })
  await waitFor(() => expect(made(fake, 'createTask')).toMatchObject([{ agent: '', profile: 'prf_2', permissionPolicy: 2 }]))
})

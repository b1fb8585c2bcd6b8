import { Code, FoundryError, topics } from '@foundry/client'
import { act, fireEvent, render, screen, waitFor, within } from '@testing-library/react'
import { beforeEach, expect, test } from 'vitest'
import { FakeFoundry, shellItems, type FakeCalls } from '../test/fakeFoundry'
import { marks, organizationOf, repository, task } from '../test/summaries'
import { setFilter } from '../shell/useListRows'
import { App } from './App'

const organizations = [
  { id: 'org_1', name: 'acme', role: 4 },
  { id: 'org_2', name: 'grace', role: 1 },
]

function openAt(path: string, calls: FakeCalls = {}): FakeFoundry {
  history.replaceState(null, '', path)
  const fake = new FakeFoundry(calls)
  fake.show(topics.appShell(), shellItems(organizations))
  for (const { id } of organizations) {
    const tasks = [
      task('task_1', 30, { title: 'Fix the login', sessions: [{ sessionId: 'ses_1', lastOffset: 2n }] }),
      task('task_2', 20, { title: 'Upgrade the client' }),
    ]
    fake.show(topics.organization(id), organizationOf([repository('repo_1', 'foundry')], tasks))
    fake.show(topics.userState(id), marks({}))
  }
  render(<App client={fake.client} />)
  return fake
}

beforeEach(() => setFilter(''))

test('the start leads to the active organization', async () => {
  openAt('/')
  await waitFor(() => expect(location.pathname).toBe('/o/org_1'))
  expect(screen.getByRole('button', { name: /Organization acme/ })).toBeTruthy()
  expect(document.title).toBe('Tasks · Foundry')
})

test('the list shows tasks with branch and state, and says which are unread', async () => {
  openAt('/o/org_1')
  const row = (await screen.findAllByRole('link', { name: /Fix the login/ }))[0] as HTMLElement
  expect(within(row).getByRole('img', { name: 'Idle' })).toBeTruthy()
  expect(within(row).getByRole('img', { name: 'unread' })).toBeTruthy()
  expect(row.textContent).toContain('foundry/task_1')
  expect(row.getAttribute('href')).toBe('/o/org_1/t/task_1')
})

test('marks that turn the direction of a title or branch are shown and turn nothing', async () => {
  const fake = openAt('/o/org_1')
  const turned = task('task_1', 30, { title: 'Open \u202etxt.exe', branch: 'fix/\u202egnp.sh' })
  act(() => fake.show(topics.organization('org_1'), organizationOf([repository('repo_1', 'a\u202eb')], [turned])))
  const row = (await screen.findAllByRole('link', { name: /⟦RLO⟧txt\.exe/ }))[0] as HTMLElement
  expect(row.textContent).toContain('fix/⟦RLO⟧gnp.sh')
  expect(document.body.innerHTML).not.toMatch(/[\u202a-\u202e]/)
})

test('arrow keys move through the list, and one row alone is in the order of Tab', async () => {
  openAt('/o/org_1')
  const list = await screen.findByRole('list', { name: 'Tasks' })
  const rows = () => within(list).getAllByRole('link')
  expect(rows().filter((it) => it.tabIndex === 0)).toHaveLength(1)
  rows()[0]?.focus()
  fireEvent.keyDown(rows()[0] as HTMLElement, { key: 'ArrowDown' })
  await waitFor(() => expect(document.activeElement?.textContent).toContain('Fix the login'))
  fireEvent.keyDown(document.activeElement as Element, { key: 'End' })
  await waitFor(() => expect(document.activeElement?.textContent).toContain('Upgrade the client'))
  expect(rows().filter((it) => it.tabIndex === 0)).toHaveLength(1)
})

test('a filter narrows the list and says how many are left', async () => {
  openAt('/o/org_1')
  fireEvent.change(await screen.findByRole('searchbox', { name: 'Filter tasks' }), { target: { value: 'upgrade' } })
  const list = screen.getByRole('list', { name: 'Tasks' })
  expect(within(list).queryByRole('link', { name: /Fix the login/ })).toBeNull()
  expect(screen.getByText('1 of 2 tasks')).toBeTruthy()
})

test('who is signed out elsewhere is led to sign-in and back to the same place', async () => {
  const fake = openAt('/o/org_1/nowhere?x=1')
  await screen.findByText('Page not found')
  act(() => fake.connection.set({ phase: 'signed-out', since: 0, attempt: 0 }))
  await screen.findByText(/Your session has ended/)
  expect(location.pathname).toBe('/sign-in')
  fireEvent.change(screen.getByLabelText('Secret'), { target: { value: 's3cret' } })
  fireEvent.change(screen.getByLabelText('Login'), { target: { value: 'grace' } })
  fireEvent.click(screen.getByRole('button', { name: 'Sign in' }))
  await waitFor(() => expect(location.pathname + location.search).toBe('/o/org_1/nowhere?x=1'))
  expect(fake.signIns).toEqual([{ secret: 's3cret', login: 'grace', organization: undefined }])
})

test('who signs out is not told that the session has ended', async () => {
  openAt('/o/org_1')
  fireEvent.click(await screen.findByRole('button', { name: 'Account of grace' }))
  fireEvent.click(await screen.findByRole('menuitem', { name: 'Sign out' }))
  await screen.findByRole('heading', { name: 'Sign in to Foundry' })
  expect(screen.queryByText(/Your session has ended/)).toBeNull()
})

test('a sign-in link with a login signs in at once, and its secret leaves the address', async () => {
  history.replaceState(null, '', '/sign-in#secret=s3cret&login=grace')
  const fake = new FakeFoundry()
  fake.connection.set({ phase: 'signed-out', since: 0, attempt: 0 })
  fake.signInError = new FoundryError({ code: Code.Unauthenticated, reason: 'SECRET_WRONG', message: 'the secret is wrong' })
  render(<App client={fake.client} />)
  await screen.findByText('SECRET_WRONG')
  expect(fake.signIns).toEqual([{ secret: 's3cret', login: 'grace', organization: undefined }])
  expect(location.hash).toBe('')
})

test('a sign-in that lacks a login is not sent', async () => {
  history.replaceState(null, '', '/sign-in#secret=s3cret')
  const fake = new FakeFoundry()
  fake.connection.set({ phase: 'signed-out', since: 0, attempt: 0 })
  render(<App client={fake.client} />)
  fireEvent.click(await screen.findByRole('button', { name: 'Sign in' }))
  expect(screen.getByText('Login is required.')).toBeTruthy()
  expect(fake.signIns).toEqual([])
})

test('viewers are offered nothing that they may not do', async () => {
  openAt('/o/org_2')
  await screen.findByRole('list', { name: 'Tasks' })
  expect(screen.queryByRole('button', { name: /New task/ })).toBeNull()
  expect(screen.queryByRole('button', { name: 'Add repository' })).toBeNull()
})

test('an organization that is not open to the person is said to be so', async () => {
  openAt('/o/org_9')
  expect(await screen.findByText('You do not have access to this organization')).toBeTruthy()
})

test('a task is created once, however often the answer is lost', async () => {
  let attempts = 0
  const createTask = () => {
    attempts += 1
    if (attempts === 1) throw new FoundryError({ code: Code.Unavailable, reason: 'DRAINING', message: 'it stops' })
    return { task: { taskId: 'task_1' } }
  }
  const fake = openAt('/o/org_1/new', {
    task: { createTask, updateDraft: () => ({ rev: 9n }) },
    repo: { listBranches: () => ({ branches: [] }) },
    provisioner: { listAgents: () => ({ agents: [] }), listProviders: () => ({ providers: [] }) },
  })
  const prompt = await screen.findByLabelText('Prompt', {}, { timeout: 10_000 })
  fireEvent.change(prompt, { target: { value: 'Fix it' } })
  fireEvent.keyDown(prompt, { key: 'Enter', ctrlKey: true })
  await screen.findByText('DRAINING')
  fireEvent.keyDown(prompt, { key: 'Enter', ctrlKey: true })
  await waitFor(() => expect(location.pathname).toBe('/o/org_1/t/task_1'), { timeout: 10_000 })
  const sent = fake.made.filter((it) => it.method === 'createTask').map((it) => it.request as { requestId: string; prompt: string })
  expect(sent.map((it) => it.prompt)).toEqual(['Fix it', 'Fix it'])
  expect(sent[1]?.requestId).toBe(sent[0]?.requestId)
})

test('a sign-in link that is opened while the page is there works too', async () => {
  history.replaceState(null, '', '/sign-in')
  const fake = new FakeFoundry()
  fake.connection.set({ phase: 'signed-out', since: 0, attempt: 0 })
  render(<App client={fake.client} />)
  await screen.findByRole('heading', { name: 'Sign in to Foundry' })
  history.replaceState(null, '', '/sign-in#secret=s3cret&login=grace')
  act(() => void dispatchEvent(new Event('hashchange')))
  await waitFor(() => expect(fake.signIns).toHaveLength(1))
})

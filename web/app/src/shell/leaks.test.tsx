import { Code, FoundryError, topics } from '@foundry/client'
import { act, fireEvent, render, screen, waitFor } from '@testing-library/react'
import { beforeEach, expect, test } from 'vitest'
import { App } from '../app/App'
import { FakeFoundry, shellItems } from '../test/fakeFoundry'
import { marks, organizationOf, repository, task } from '../test/summaries'
import { toastError } from '../ui'
import { setFilter } from './useListRows'

beforeEach(() => setFilter(''))

function openAt(path: string): FakeFoundry {
  history.replaceState(null, '', path)
  const fake = new FakeFoundry({ auth: { selectOrganization: () => ({}) } })
  const organizations = [
    { id: 'org_1', name: 'acme', role: 4 },
    { id: 'org_2', name: 'grace', role: 4 },
  ]
  fake.show(topics.appShell(), shellItems(organizations))
  for (const { id } of organizations) {
    fake.show(topics.organization(id), organizationOf([repository('repo_1', 'foundry')], [task('task_1', 30, { title: 'Fix the login' })]))
    fake.show(topics.userState(id), marks({}))
  }
  render(<App client={fake.client} />)
  return fake
}

test('the filter of one organization is not that of the next', async () => {
  openAt('/o/org_1')
  fireEvent.change(await screen.findByRole('searchbox', { name: 'Filter tasks' }), { target: { value: 'upgrade' } })
  fireEvent.click(screen.getByRole('button', { name: /Organization acme/ }))
  fireEvent.click(await screen.findByRole('menuitem', { name: /grace/ }))
  await waitFor(() => expect(location.pathname).toBe('/o/org_2'))
  expect(screen.getByRole<HTMLInputElement>('searchbox', { name: 'Filter tasks' }).value).toBe('')
})

test('messages to one person are not there for the next', async () => {
  openAt('/o/org_1')
  act(() => toastError('The secret plan was not renamed', new Error('no')))
  expect(screen.getByText('The secret plan was not renamed')).toBeTruthy()
  fireEvent.click(await screen.findByRole('button', { name: 'Account of grace' }))
  fireEvent.click(await screen.findByRole('menuitem', { name: 'Sign out' }))
  await screen.findByRole('heading', { name: 'Sign in to Foundry' })
  expect(screen.queryByText('The secret plan was not renamed')).toBeNull()
  expect(document.body.textContent).not.toContain('secret plan')
})

test('a stream that the server refuses is said to be refused, with the reason and a way to try again', async () => {
  const fake = openAt('/o/org_1')
  await screen.findByRole('searchbox', { name: 'Filter tasks' })
  const error = new FoundryError({ code: Code.PermissionDenied, reason: 'ORIGIN_REFUSED', message: 'this origin may not watch' })
  act(() => fake.connection.set({ phase: 'closed', since: 0, attempt: 0, error }))
  const banner = screen.getByRole('region', { name: 'Connection' })
  expect(banner.textContent).toContain('This origin may not watch.')
  expect(banner.textContent).toContain('ORIGIN_REFUSED')
  fireEvent.click(screen.getByRole('button', { name: 'Reconnect now' }))
  expect(fake.made).toContainEqual({ service: 'connection', method: 'reconnectNow', request: undefined })
})

test('shortcuts rest while a dialog is open, wherever the focus is', async () => {
  openAt('/o/org_1')
  await screen.findByRole('searchbox', { name: 'Filter tasks' })
  fireEvent.keyDown(document.body, { key: '?' })
  await screen.findByRole('dialog', { name: 'Shortcuts' })
  fireEvent.keyDown(document.body, { key: 'j' })
  expect(location.pathname).toBe('/o/org_1')
})

import { Code, FoundryError } from '@foundry/client'
import { cleanup, fireEvent, render, screen, waitFor } from '@testing-library/react'
import { afterEach, expect, test } from 'vitest'
import { App } from '../app/App'
import { FakeFoundry } from '../test/fakeFoundry'
import { leaveFor } from './away'

const github = { name: 'github', title: 'GitHub', kind: 'github' as const }
const here = { ways: [github], development: false, setUpRequired: false, publicUrl: location.origin }

afterEach(() => sessionStorage.clear())

function openAt(path: string, change: (fake: FakeFoundry) => void = () => undefined): FakeFoundry {
  history.replaceState(null, '', path)
  const fake = new FakeFoundry()
  fake.connection.set({ phase: 'signed-out', since: 0, attempt: 0 })
  fake.ways = here
  change(fake)
  render(<App client={fake.client} />)
  return fake
}

/** Begins and fails, so that the page stays. */
function failing(fake: FakeFoundry): void {
  fake.signInError = new FoundryError({ code: Code.Unavailable, reason: 'SIGN_IN_PROVIDER_UNREACHABLE', message: 'no answer' })
}

test('the configured ways take the place of the secret', async () => {
  const fake = openAt('/sign-in', failing)
  fireEvent.click(await screen.findByRole('button', { name: 'Continue with GitHub' }))
  await screen.findByText('SIGN_IN_PROVIDER_UNREACHABLE')
  expect(fake.begun).toEqual([{ provider: 'github', setUp: undefined }])
  expect(screen.queryByLabelText('Secret')).toBeNull()
  expect(screen.queryByText(/foundry login --web/)).toBeNull()
})

test('the first owner enters the set-up secret and a name', async () => {
  const fake = openAt('/sign-in', (it) => {
    failing(it)
    it.ways = { ...here, setUpRequired: true }
  })
  const button = await screen.findByRole('button', { name: 'Set up with GitHub' })
  fireEvent.click(button)
  expect(screen.getByText('The set-up secret is required.')).toBeTruthy()
  expect(fake.begun).toEqual([])
  fireEvent.change(screen.getByLabelText('Set-up secret'), { target: { value: 's3cret' } })
  fireEvent.change(screen.getByLabelText('Organization'), { target: { value: 'acme' } })
  fireEvent.click(button)
  await waitFor(() => expect(fake.begun).toEqual([{ provider: 'github', setUp: { secret: 's3cret', organization: 'acme' } }]))
})

test('who comes back is signed in and goes where they wanted', async () => {
  leaveFor({ signInId: 'sgn_1', claim: 'claim', returnTo: '/o/org_1?x=1' })
  const fake = openAt('/sign-in?sign_in=sgn_1#return=back')
  await waitFor(() => expect(location.pathname + location.search).toBe('/o/org_1?x=1'))
  expect(fake.completed).toEqual([{ signInId: 'sgn_1', claim: 'claim', returnSecret: 'back' }])
  expect(sessionStorage.length).toBe(0)
})

test('a refusal is shown with its reason, and the ways are there for another attempt', async () => {
  leaveFor({ signInId: 'sgn_1', claim: 'claim', returnTo: '/' })
  openAt('/sign-in?sign_in=sgn_1#return=back', (it) => {
    it.signInError = new FoundryError({ code: Code.PermissionDenied, reason: 'NOT_ADMITTED', message: 'this account may not sign in here' })
  })
  await screen.findByText('NOT_ADMITTED')
  expect(sessionStorage.length).toBe(0)
  expect(await screen.findByRole('button', { name: 'Continue with GitHub' })).toBeTruthy()
})

test('a way back that this tab did not begin opens nothing', async () => {
  const fake = openAt('/sign-in?sign_in=sgn_7#return=back')
  await screen.findByText('SIGN_IN_UNKNOWN')
  expect(fake.completed).toEqual([])
  expect(location.search + location.hash).toBe('')
})

test('a sign-in without an answer is there for the page when it is loaded again', async () => {
  leaveFor({ signInId: 'sgn_1', claim: 'claim', returnTo: '/o/org_1' })
  const fake = openAt('/sign-in?sign_in=sgn_1#return=back', failing)
  await screen.findByText('SIGN_IN_PROVIDER_UNREACHABLE')
  expect(location.search + location.hash).toBe('')
  cleanup()
  const again = openAt('/sign-in', () => undefined)
  await waitFor(() => expect(location.pathname).toBe('/o/org_1'))
  expect(again.completed).toEqual(fake.completed)
  expect(sessionStorage.length).toBe(0)
})

test('ways that cannot be loaded are an error to try again, and no form', async () => {
  const fake = openAt('/sign-in', (it) => {
    it.waysError = new FoundryError({ code: Code.Unavailable, reason: 'STARTING', message: 'auth starts' })
  })
  await screen.findByText('STARTING')
  expect(screen.queryByLabelText('Secret')).toBeNull()
  fake.waysError = undefined
  fireEvent.click(screen.getByRole('button', { name: 'Try again' }))
  await screen.findByRole('button', { name: 'Continue with GitHub' })
  expect(screen.queryByText('STARTING')).toBeNull()
})

test('nothing of a hostile address is shown', async () => {
  openAt('/sign-in?refused=%3Cimg%20src%3Dx%3E')
  await screen.findByText('SIGN_IN_INTERRUPTED')
  expect(document.body.innerHTML).not.toContain('img src')
})

test('on another address the page leads to the public one', async () => {
  openAt('/sign-in', (it) => {
    it.ways = { ...here, publicUrl: 'https://foundry.example' }
  })
  const link = await screen.findByRole('link', { name: 'https://foundry.example' })
  expect(link.getAttribute('href')).toBe('https://foundry.example/sign-in')
  expect(screen.queryByRole('button', { name: /GitHub/ })).toBeNull()
})

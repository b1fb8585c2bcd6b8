import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { Code, FoundryError, topics } from '@foundry/client'
import { FoundryProvider } from '@foundry/client/react'
import { AccessTokenSchema, type AccessToken } from '@foundry/client/gen/foundry/auth/v1/auth_pb'
import { Role } from '@foundry/client/gen/foundry/common/v1/common_pb'
import { MantineProvider } from '@mantine/core'
import { fireEvent, render, screen, waitFor, within } from '@testing-library/react'
import { expect, test } from 'vitest'
import { OrganizationProvider } from '../state/organization'
import { FakeFoundry, shellItems, type FakeCalls } from '../test/fakeFoundry'
import { organizationOf } from '../test/summaries'
import { toastStore } from '../ui/toast'
import { TokensPage } from './TokensPage'

const DAY_MS = 86_400_000
const SECRET = 'fpat_0123456789abcdef'
const at = (days: number) => timestampFromMs(Date.now() + days * DAY_MS)

const laptop = token({ accessTokenId: 'pat_1', name: 'laptop', createTime: at(-2), expireTime: at(20), lastUseTime: at(-1) })

function token(fields: MessageInitShape<typeof AccessTokenSchema>): AccessToken {
  return create(AccessTokenSchema, { organizationId: 'org_1', createTime: at(-2), ...fields })
}

function open(auth: FakeCalls['auth'] = {}, organizations = [{ id: 'org_1', name: 'orchard', role: Role.VIEWER }]) {
  const fake = new FakeFoundry({ auth: { listAccessTokens: () => ({ accessTokens: [laptop], nextPageToken: '' }), ...auth } })
  fake.show(topics.organization('org_1'), organizationOf([], []))
  fake.show(topics.appShell(), shellItems(organizations))
  const shown = render(
    <MantineProvider env="test">
      <FoundryProvider client={fake.client}>
        <OrganizationProvider organizationId="org_1">
          <TokensPage />
        </OrganizationProvider>
      </FoundryProvider>
    </MantineProvider>,
  )
  return { fake, unmount: shown.unmount }
}

const made = (fake: FakeFoundry, method: string) => fake.made.filter((it) => it.method === method).map((it) => it.request)

async function openForm() {
  fireEvent.click(await screen.findByRole('button', { name: 'Create access token' }))
  return await screen.findByRole('dialog', { name: 'Create access token' })
}

function send(dialog: HTMLElement, name: string) {
  fireEvent.change(within(dialog).getByLabelText('Name'), { target: { value: name } })
  fireEvent.click(within(dialog).getByRole('button', { name: 'Create access token' }))
}

test('a token is listed with its organization and times, and without a button once it is past', async () => {
  const tokens = [laptop, token({ accessTokenId: 'pat_2', name: 'old', expireTime: at(-1) }), token({ name: 'lost', revokeTime: at(-1) })]
  open({
    listAccessTokens: ({ pageToken }: { pageToken: string }) =>
      pageToken === '' ? { accessTokens: tokens.slice(0, 1), nextPageToken: 'more' } : { accessTokens: tokens.slice(1), nextPageToken: '' },
  })
  const list = await screen.findByRole('list', { name: 'Access tokens' })
  expect(list.textContent).toMatch(/laptop.*Organizationorchard.*Created2 d ago.*Expires.*Last used1 d ago/)
  expect(within(list).getAllByRole('listitem')).toHaveLength(1)
  const past = screen.getByText('Revoked and expired (2)').closest('details')
  expect(past?.open).toBe(false)
  expect(past?.textContent).toMatch(/old.*Expired.*lost.*Revoked1 d ago.*Last usednever/)
  expect(screen.getAllByRole('button', { name: /^Revoke / })).toHaveLength(1)
})

test('without tokens it says what they are for, and a failure can be tried again', async () => {
  let fails = true
  open({
    listAccessTokens: () => {
      if (fails) throw new FoundryError({ code: Code.Unavailable, reason: 'UNAVAILABLE', message: 'not now' })
      return { accessTokens: [], nextPageToken: '' }
    },
  })
  await screen.findByText('The access tokens could not be loaded')
  fails = false
  fireEvent.click(screen.getByRole('button', { name: /again/i }))
  await screen.findByText('No access tokens')
})

test('a value is shown once, and nothing of it is left when the dialog is closed', async () => {
  const { fake } = open({ createAccessToken: () => ({ accessToken: laptop, secret: SECRET }) })
  const form = await openForm()
  send(form, ' ')
  await within(form).findByText('The name is required.')
  send(form, ' laptop ')
  const dialog = await screen.findByRole('dialog', { name: 'Access token laptop' })
  expect(within(dialog).getByText(SECRET)).toBeTruthy()
  expect(within(dialog).getByText(`export FOUNDRY_TOKEN=${SECRET}`)).toBeTruthy()
  expect(within(dialog).getByRole('button', { name: 'Copy the token' })).toBeTruthy()
  expect(made(fake, 'createAccessToken')).toMatchObject([{ organizationId: 'org_1', name: 'laptop', lifetime: { seconds: 7_776_000n } }])
  expect(made(fake, 'listAccessTokens')).toHaveLength(2)
  fireEvent.click(within(dialog).getByRole('button', { name: 'Done' }))
  await waitFor(() => expect(screen.queryByRole('dialog')).toBeNull())
  await openForm()
  expect(document.documentElement.outerHTML + JSON.stringify({ ...localStorage, ...sessionStorage })).not.toContain(SECRET)
})

test('the organization and no end can be chosen', async () => {
  const two = ['orchard', 'meadow'].map((name, n) => ({ id: `org_${n + 1}`, name, role: Role.MEMBER }))
  const { fake } = open({ createAccessToken: () => ({ accessToken: laptop, secret: SECRET }) }, two)
  const form = await openForm()
  for (const [field, option] of [
    ['Organization', 'meadow'],
    ['Expires after', 'Never'],
  ] as const) {
    fireEvent.click(within(form).getByLabelText(field, { selector: 'input' }))
    fireEvent.click(await screen.findByRole('option', { name: option }))
  }
  send(form, 'ci')
  await screen.findByRole('dialog', { name: 'Access token ci' })
  expect(made(fake, 'createAccessToken')).toMatchObject([{ organizationId: 'org_2', lifetime: undefined }])
})

test('a refusal stands at the name or below the form, and a repeat is the same request, whose value may be lost', async () => {
  const refusals = [
    new FoundryError({ code: 3, reason: 'INVALID_ARGUMENT', message: 'no', fields: [{ field: 'name', description: 'is too long' }] }),
    new FoundryError({ code: Code.ResourceExhausted, reason: 'LIMIT_REACHED', message: 'too many' }),
  ]
  const { fake } = open({
    createAccessToken: () => {
      const refusal = refusals.shift()
      if (refusal !== undefined) throw refusal
      return { accessToken: laptop, secret: '' }
    },
  })
  const form = await openForm()
  send(form, 'ci')
  await within(form).findByText('Is too long.')
  expect(within(form).queryByText('INVALID_ARGUMENT')).toBeNull()
  send(form, 'ci')
  await within(form).findByText('LIMIT_REACHED')
  send(form, 'ci')
  await screen.findByText(/its value was lost on the way/)
  const ids = (made(fake, 'createAccessToken') as { requestId: string }[]).map((it) => it.requestId)
  expect(new Set(ids).size).toBe(1)
})

test('a token whose dialog was closed before the answer is listed, and a message says that its value is lost', async () => {
  let answer: (it: object) => void = () => {}
  const { fake } = open({ createAccessToken: () => new Promise((resolve) => (answer = resolve)) })
  const form = await openForm()
  send(form, 'ci')
  fireEvent.click(within(form).getByRole('button', { name: 'Cancel' }))
  await waitFor(() => expect(screen.queryByRole('dialog')).toBeNull())
  answer({ accessToken: laptop, secret: SECRET })
  await waitFor(() => expect(made(fake, 'listAccessTokens')).toHaveLength(2))
  const [message] = toastStore.get().slice(-1)
  expect(message).toMatchObject({ title: 'The access token was created' })
  expect(JSON.stringify(message)).not.toContain(SECRET)
})

test('a token is revoked after a question, and the focus stays on the page', async () => {
  let tokens = [laptop]
  const { fake } = open({
    listAccessTokens: () => ({ accessTokens: tokens, nextPageToken: '' }),
    revokeAccessToken: () => {
      tokens = [token({ ...laptop, revokeTime: at(0) })]
      return { accessToken: tokens[0] }
    },
  })
  const button = await screen.findByRole('button', { name: 'Revoke laptop' })
  button.focus()
  fireEvent.click(button)
  const dialog = await screen.findByRole('dialog', { name: 'Revoke laptop?' })
  expect(made(fake, 'revokeAccessToken')).toHaveLength(0)
  fireEvent.click(within(dialog).getByRole('button', { name: 'Revoke access token' }))
  await screen.findByText('Revoked and expired (1)')
  expect(made(fake, 'revokeAccessToken')).toMatchObject([{ accessTokenId: 'pat_1' }])
  await waitFor(() => expect(document.activeElement?.textContent).toBe('Access tokens'))
})

test('a hostile name is inert in the list and in every label', async () => {
  const name = '<img src=x onerror=alert(1)>\u202elaptop'
  open({ listAccessTokens: () => ({ accessTokens: [token({ accessTokenId: 'pat_1', name })], nextPageToken: '' }) })
  const list = await screen.findByRole('list', { name: 'Access tokens' })
  expect(list.querySelector('img')).toBeNull()
  fireEvent.click(within(list).getByRole('button', { name: /^Revoke / }))
  await screen.findByRole('dialog', { name: /^Revoke .*⟦RLO⟧laptop\?$/ })
  expect(document.body.outerHTML).not.toContain('\u202e')
})

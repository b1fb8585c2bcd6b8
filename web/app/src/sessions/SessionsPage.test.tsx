import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { Code, FoundryError } from '@foundry/client'
import { FoundryProvider } from '@foundry/client/react'
import { SessionKind, SessionSchema, SignInMeans, type Session } from '@foundry/client/gen/foundry/auth/v1/session_pb'
import { MantineProvider } from '@mantine/core'
import { fireEvent, render, screen, waitFor, within } from '@testing-library/react'
import { expect, test } from 'vitest'
import { FakeFoundry, type FakeCalls } from '../test/fakeFoundry'
import { SessionsPage } from './SessionsPage'

const at = (days: number) => timestampFromMs(Date.now() + days * 86_400_000)

function session(fields: MessageInitShape<typeof SessionSchema>): Session {
  return create(SessionSchema, { createTime: at(-2), expireTime: at(28), address: '192.0.2.7', ...fields })
}

const here = session({
  credentialId: 'crd_1',
  kind: SessionKind.PAGE,
  device: 'Firefox on Linux',
  means: SignInMeans.PROVIDER,
  provider: 'github',
  current: true,
})
const laptop = session({
  credentialId: 'crd_2',
  kind: SessionKind.PROGRAM,
  device: 'foundry on laptop',
  means: SignInMeans.DEVICE_CODE,
  lastUseTime: at(-1),
})

function open(auth: FakeCalls['auth']): FakeFoundry {
  const fake = new FakeFoundry({ auth })
  render(
    <MantineProvider env="test">
      <FoundryProvider client={fake.client}>
        <SessionsPage />
      </FoundryProvider>
    </MantineProvider>,
  )
  return fake
}

test('each device shows how it signed in, from where, and when it was last seen; this one is not ended here', async () => {
  open({ listSessions: () => ({ sessions: [here, laptop], nextPageToken: '' }) })
  const list = await screen.findByRole('list', { name: 'Sessions' })
  const [first, second] = within(list).getAllByRole('listitem')
  expect(first?.textContent).toMatch(/Firefox on LinuxThis browserSigned in bygithubFrom192\.0\.2\.7Since2 d agoLast seen2 d ago/)
  expect(second?.textContent).toMatch(/foundry on laptopEndSigned in byCode typed in a browser.*Last seen1 d ago/)
  expect(screen.getAllByRole('button')).toHaveLength(1)
})

test('a session is ended after a question, and the focus stays on the page', async () => {
  let sessions = [here, laptop]
  const fake = open({
    listSessions: () => ({ sessions, nextPageToken: '' }),
    revokeSession: () => {
      sessions = [here]
      return { session: laptop }
    },
  })
  const button = await screen.findByRole('button', { name: 'End foundry on laptop' })
  button.focus()
  fireEvent.click(button)
  const dialog = await screen.findByRole('dialog', { name: 'End the session of foundry on laptop?' })
  expect(fake.made.filter((it) => it.method === 'revokeSession')).toHaveLength(0)
  expect(dialog.textContent).toContain('Access tokens that it made stay valid')
  fireEvent.click(within(dialog).getByRole('button', { name: 'End session' }))
  await waitFor(() => expect(screen.queryByText('foundry on laptop')).toBeNull())
  expect(fake.made.find((it) => it.method === 'revokeSession')?.request).toMatchObject({ credentialId: 'crd_2' })
  await waitFor(() => expect(document.activeElement?.textContent).toBe('Devices and sessions'))
})

test('a failure can be tried again', async () => {
  let fails = true
  open({
    listSessions: () => {
      if (fails) throw new FoundryError({ code: Code.Unavailable, reason: 'UNAVAILABLE', message: 'not now' })
      return { sessions: [here], nextPageToken: '' }
    },
  })
  await screen.findByText('The sessions could not be loaded')
  fails = false
  fireEvent.click(screen.getByRole('button', { name: /again/i }))
  await screen.findByText('Firefox on Linux')
})

test('a hostile name of a device is inert in the list and in every label', async () => {
  const device = '<img src=x onerror=alert(1)>\u202elaptop'
  open({ listSessions: () => ({ sessions: [session({ credentialId: 'crd_3', device })], nextPageToken: '' }) })
  const list = await screen.findByRole('list', { name: 'Sessions' })
  expect(list.querySelector('img')).toBeNull()
  fireEvent.click(within(list).getByRole('button', { name: /^End / }))
  await screen.findByRole('dialog', { name: /⟦RLO⟧laptop\?$/ })
  expect(document.body.outerHTML).not.toContain('\u202e')
})

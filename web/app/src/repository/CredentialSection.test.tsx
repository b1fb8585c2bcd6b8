import { create } from '@bufbuild/protobuf'
import { topics } from '@foundry/client'
import { FoundryProvider } from '@foundry/client/react'
import {
  RepositoryCredentialKind,
  RepositoryCredentialSchema,
  RepositoryHostKeySchema,
} from '@foundry/client/gen/foundry/repo/v1/credential_pb'
import type { RepositoryCredential } from '@foundry/client/gen/foundry/repo/v1/credential_pb'
import { RepositorySchema, RepositoryState } from '@foundry/client/gen/foundry/repo/v1/repo_pb'
import { MantineProvider } from '@mantine/core'
import { cleanup, fireEvent, render, screen, waitFor } from '@testing-library/react'
import { expect, test } from 'vitest'
import { FrameContext, type Frame } from '../shell/frame'
import { OrganizationProvider } from '../state/organization'
import { FakeFoundry } from '../test/fakeFoundry'
import { organizationOf } from '../test/summaries'
import { CredentialSection } from './CredentialSection'

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

interface Scene {
  url?: string
  reason?: string
  ofPullRequests?: string
  credentials?: RepositoryCredential[]
  canAdminister?: boolean
}

function open({ url = 'https://example.org/a.git', reason = '', ofPullRequests = '', credentials = [], canAdminister = true }: Scene) {
  const fake = new FakeFoundry({
    repo: {
      listRepositoryCredentials: () => ({ repositoryCredentials: credentials, nextPageToken: '' }),
      createRepositoryCredential: () => ({ rev: 2n }),
      deleteRepositoryCredential: () => ({ rev: 3n }),
      testRepositoryCredential: () => ({ rev: 4n }),
    },
  })
  fake.show(topics.organization('org_1'), organizationOf([], []))
  const repository = create(RepositorySchema, {
    repositoryId: 'repo_1',
    organizationId: 'org_1',
    name: 'a',
    url,
    state: reason === '' ? RepositoryState.READY : RepositoryState.ERROR,
    condition: { reason },
    pullRequestSync: { stale: { reason: ofPullRequests } },
  })
  render(
    <MantineProvider env="test">
      <FoundryProvider client={fake.client}>
        <OrganizationProvider organizationId="org_1">
          <FrameContext.Provider value={{ ...frame, canAdminister }}>
            <CredentialSection repository={repository} rev={1n} />
          </FrameContext.Provider>
        </OrganizationProvider>
      </FoundryProvider>
    </MantineProvider>,
  )
  return fake
}

const made = (fake: FakeFoundry, method: string) => fake.made.filter((it) => it.method === method).map((it) => it.request)

const ofHost = create(RepositoryCredentialSchema, {
  repositoryCredentialId: 'rcr_1',
  kind: RepositoryCredentialKind.TOKEN,
  origin: 'https://example.org',
  hint: 'wxyz',
})

test('a repository that needs a credential has a form for it, whose secret is sent once and shown no more', async () => {
  const fake = open({ reason: 'REPOSITORY_CREDENTIALS_REQUIRED' })
  const field = await screen.findByLabelText('Token or password')
  fireEvent.change(field, { target: { value: ' canary-token ' } })
  fireEvent.click(screen.getByRole('button', { name: 'Store credential' }))
  await waitFor(() => expect(field).toHaveProperty('value', ''))
  expect(made(fake, 'createRepositoryCredential')).toMatchObject([
    {
      organizationId: 'org_1',
      target: { case: 'repositoryId', value: 'repo_1' },
      kind: RepositoryCredentialKind.TOKEN,
      secret: { value: 'canary-token' },
    },
  ])
})

test('a public repository has the form too if the API of its host wants a token, but not for a deploy key', async () => {
  open({ ofPullRequests: 'FORGE_CREDENTIALS_REQUIRED' })
  expect(await screen.findByLabelText('Token or password')).toBeDefined()
  cleanup()
  const fake = open({ url: 'git@example.org:a.git', ofPullRequests: 'FORGE_CREDENTIALS_REQUIRED' })
  await waitFor(() => expect(made(fake, 'listRepositoryCredentials')).toHaveLength(1))
  expect(screen.queryByLabelText('Deploy key')).toBeNull()
})

test('one over ssh asks for a deploy key, and may be for all at the host', async () => {
  const fake = open({ url: 'git@example.org:a.git', reason: 'REPOSITORY_CREDENTIALS_REQUIRED' })
  fireEvent.change(await screen.findByLabelText('Deploy key'), { target: { value: 'key\n' } })
  fireEvent.click(screen.getByLabelText('Use it for all repositories of the organization at ssh://example.org'))
  fireEvent.click(screen.getByRole('button', { name: 'Store credential' }))
  await waitFor(() => expect(made(fake, 'createRepositoryCredential')).toHaveLength(1))
  expect(made(fake, 'createRepositoryCredential')).toMatchObject([
    { target: { case: 'host', value: 'ssh://example.org' }, kind: RepositoryCredentialKind.SSH_KEY, secret: { value: 'key\n' } },
  ])
})

test('who is no administrator sees what is missing and nothing to fill in', async () => {
  open({ reason: 'REPOSITORY_CREDENTIALS_REQUIRED', canAdminister: false })
  expect(await screen.findByText('An administrator of the organization can store one here.')).toBeDefined()
  expect(screen.queryByLabelText('Token or password')).toBeNull()
})

test('the credential in use is shown by its end, and removed after a question', async () => {
  const fake = open({ credentials: [ofHost] })
  expect(await screen.findByText('A token (…wxyz) for all repositories at https://example.org')).toBeDefined()
  fireEvent.click(screen.getByRole('button', { name: 'Remove credential' }))
  const dialog = await screen.findByRole('dialog')
  fireEvent.click([...dialog.querySelectorAll('button')].find((it) => it.textContent === 'Remove credential') as HTMLElement)
  await waitFor(() => expect(made(fake, 'deleteRepositoryCredential')).toHaveLength(1))
})

test('a changed host key is accepted on request', async () => {
  const key = create(RepositoryCredentialSchema, {
    ...ofHost,
    repositoryId: 'repo_1',
    kind: RepositoryCredentialKind.SSH_KEY,
    hostKeys: [create(RepositoryHostKeySchema, { publicKey: 'ssh-ed25519 A', fingerprint: 'SHA256:x' })],
  })
  const fake = open({ url: 'git@example.org:a.git', reason: 'REPOSITORY_HOST_KEY_CHANGED', credentials: [key] })
  expect(await screen.findByText('Host key SHA256:x, recorded on the first connection')).toBeDefined()
  fireEvent.click(screen.getByRole('button', { name: 'Accept the new host key' }))
  await waitFor(() =>
    expect(made(fake, 'testRepositoryCredential')).toMatchObject([{ repositoryCredentialId: 'rcr_1', acceptHostKey: true }]),
  )
})

test('a repository that needs none shows nothing of it', async () => {
  const fake = open({ url: '/srv/a' })
  expect(made(fake, 'listRepositoryCredentials')).toEqual([])
  expect(screen.queryByLabelText('Credential')).toBeNull()
})

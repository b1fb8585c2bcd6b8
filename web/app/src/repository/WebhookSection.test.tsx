import { create } from '@bufbuild/protobuf'
import { topics } from '@foundry/client'
import { FoundryProvider } from '@foundry/client/react'
import type { RepositoryWebhook } from '@foundry/client/gen/foundry/repo/v1/webhook_pb'
import { RepositoryWebhookForge, RepositoryWebhookResult, RepositoryWebhookSchema } from '@foundry/client/gen/foundry/repo/v1/webhook_pb'
import { RepositorySchema } from '@foundry/client/gen/foundry/repo/v1/repo_pb'
import { MantineProvider } from '@mantine/core'
import { fireEvent, render, screen, waitFor } from '@testing-library/react'
import { expect, test } from 'vitest'
import { FrameContext, type Frame } from '../shell/frame'
import { OrganizationProvider } from '../state/organization'
import { FakeFoundry } from '../test/fakeFoundry'
import { organizationOf } from '../test/summaries'
import { WebhookSection } from './WebhookSection'
import { forgeOf } from './webhookForges'

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

const parts = {
  repositoryWebhookId: 'rwh_1',
  forge: RepositoryWebhookForge.GITHUB,
  repositoryId: 'repo_1',
  host: 'github.com',
  path: '/webhooks/github/rwh_1',
}
const ofRepository = create(RepositoryWebhookSchema, parts)

interface Scene {
  url?: string
  webhooks?: RepositoryWebhook[]
  canAdminister?: boolean
}

function open({ url = 'https://github.com/acme/a.git', webhooks = [], canAdminister = true }: Scene) {
  const fake = new FakeFoundry({
    repo: {
      listRepositoryWebhooks: () => ({ repositoryWebhooks: webhooks, nextPageToken: '' }),
      createRepositoryWebhook: () => ({ repositoryWebhook: ofRepository, secret: { value: 'canary-secret' }, rev: 2n }),
      deleteRepositoryWebhook: () => ({ rev: 3n }),
    },
  })
  fake.show(topics.organization('org_1'), organizationOf([], []))
  const repository = create(RepositorySchema, { repositoryId: 'repo_1', organizationId: 'org_1', name: 'a', url })
  const shown = render(
    <MantineProvider env="test">
      <FoundryProvider client={fake.client}>
        <OrganizationProvider organizationId="org_1">
          <FrameContext.Provider value={{ ...frame, canAdminister }}>
            <WebhookSection repository={repository} rev={1n} />
          </FrameContext.Provider>
        </OrganizationProvider>
      </FoundryProvider>
    </MantineProvider>,
  )
  return { fake, shown }
}

const made = (fake: FakeFoundry, method: string) => fake.made.filter((it) => it.method === method).map((it) => it.request)

test('a webhook is added for a repository or its host, and its secret is shown until the form is closed', async () => {
  const { fake } = open({})
  fireEvent.click(await screen.findByRole('button', { name: 'Add webhook' }))
  fireEvent.click(screen.getByLabelText('Use it for all repositories of the organization at github.com'))
  fireEvent.click(screen.getByRole('button', { name: 'Add webhook' }))
  expect(await screen.findByText('canary-secret')).toBeDefined()
  expect(screen.getByText(`${window.location.origin}/webhooks/github/rwh_1`)).toBeDefined()
  expect(made(fake, 'createRepositoryWebhook')).toMatchObject([
    { organizationId: 'org_1', target: { case: 'host', value: 'github.com' }, forge: RepositoryWebhookForge.GITHUB },
  ])
  fireEvent.click(screen.getByRole('button', { name: 'Done' }))
  expect(screen.queryByText('canary-secret')).toBeNull()
})

test('the last delivery and what the host has reported are shown, without control over the page', async () => {
  const webhook = create(RepositoryWebhookSchema, {
    ...parts,
    lastDelivery: { event: 'push\u202e', result: RepositoryWebhookResult.BRANCHES },
    notice: { message: 'the host reports that acme/a is now acme/b', nextAction: 'register it', reason: 'REPOSITORY_RENAMED' },
  })
  const { shown } = open({ webhooks: [webhook, create(RepositoryWebhookSchema, { host: 'gitlab.com' })] })
  expect(await screen.findByText('the host reports that acme/a is now acme/b')).toBeDefined()
  expect(shown.container.textContent).toContain('branches were read again')
  expect(shown.container.textContent).not.toContain('\u202e')
  expect(screen.getAllByText(/^Webhook of/)).toHaveLength(1)
})

test('refused deliveries are shown with their number and the last address', async () => {
  const refusals = (count: bigint, lastAddress: string) =>
    create(RepositoryWebhookSchema, { ...parts, repositoryWebhookId: `rwh_${count}`, refusals: { count, lastAddress } })
  const { shown } = open({ webhooks: [refusals(1n, ''), refusals(3n, '192.0.2.1')] })
  expect(await screen.findByText(/^1 delivery was refused/)).toBeDefined()
  expect(shown.container.textContent).toContain('3 deliveries were refused')
  expect(shown.container.textContent).toContain('from 192.0.2.1')
})

test('a webhook is removed after a question', async () => {
  const { fake } = open({ webhooks: [ofRepository] })
  fireEvent.click(await screen.findByRole('button', { name: 'Remove webhook' }))
  const dialog = await screen.findByRole('dialog')
  fireEvent.click([...dialog.querySelectorAll('button')].find((it) => it.textContent === 'Remove webhook') as HTMLElement)
  await waitFor(() => expect(made(fake, 'deleteRepositoryWebhook')).toMatchObject([{ repositoryWebhookId: 'rwh_1' }]))
})

test('who is no administrator sees webhooks alone, and a local path has none', async () => {
  open({ webhooks: [ofRepository], canAdminister: false })
  expect(await screen.findByText('No delivery has arrived yet.')).toBeDefined()
  expect(screen.queryByRole('button')).toBeNull()
  const { shown } = open({ url: '/srv/git/a' })
  expect(shown.container.querySelector('section')).toBeNull()
})

test('the name of a host says what runs there', () => {
  expect(forgeOf('github.com')).toBe(RepositoryWebhookForge.GITHUB)
  expect(forgeOf('gitlab.example.org')).toBe(RepositoryWebhookForge.GITLAB)
  expect(forgeOf('codeberg.org')).toBe(RepositoryWebhookForge.FORGEJO)
})

import { create } from '@bufbuild/protobuf'
import { Code, FoundryError, topics } from '@foundry/client'
import { FoundryProvider } from '@foundry/client/react'
import {
  AgentProfileSchema,
  ModelLimitSchema,
  ModelProviderKind,
  ModelProviderSchema,
  ModelUsageSchema,
} from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { MantineProvider } from '@mantine/core'
import { fireEvent, render, screen, waitFor, within } from '@testing-library/react'
import { expect, test } from 'vitest'
import { FrameContext, type Frame } from '../shell/frame'
import { OrganizationProvider } from '../state/organization'
import { FakeFoundry, type FakeCalls } from '../test/fakeFoundry'
import { organizationOf } from '../test/summaries'
import { ModelsPage } from './ModelsPage'

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
const work = create(ModelProviderSchema, {
  modelProviderId: 'mpr_1',
  name: 'work',
  kind: ModelProviderKind.ANTHROPIC,
  baseUrl: 'https://api.anthropic.com',
})

function open(profile: FakeCalls['profile'] = {}, canAdminister = true) {
  const fake = new FakeFoundry({
    provisioner: { listAgents: () => ({ agents: [{ name: 'demo', available: true, missingCredentials: [] }] }) },
    profile: {
      listModelProviders: () => ({ modelProviders: [work], nextPageToken: '' }),
      listAgentProfiles: () => ({ profiles: [], nextPageToken: '' }),
      listModelLimits: () => ({ limits: [] }),
      listModelUsage: () => ({ usage: [] }),
      ...profile,
    },
  })
  fake.show(topics.organization('org_1'), organizationOf([], []))
  render(
    <MantineProvider env="test">
      <FoundryProvider client={fake.client}>
        <OrganizationProvider organizationId="org_1">
          <FrameContext.Provider value={{ ...frame, canAdminister }}>
            <ModelsPage />
          </FrameContext.Provider>
        </OrganizationProvider>
      </FoundryProvider>
    </MantineProvider>,
  )
  return fake
}

const made = (fake: FakeFoundry, method: string) => fake.made.filter((it) => it.method === method).map((it) => it.request)

async function fill(name: string, key: string) {
  fireEvent.click(await screen.findByRole('button', { name: 'Add model provider' }))
  const dialog = await screen.findByRole('dialog', { name: 'Add model provider' })
  fireEvent.change(within(dialog).getByLabelText('Name'), { target: { value: name } })
  fireEvent.change(within(dialog).getByLabelText('Key'), { target: { value: key } })
  fireEvent.click(within(dialog).getByRole('button', { name: 'Add model provider' }))
  return dialog
}

test('a key leaves its field as soon as it is sent, and must be entered again after a refusal', async () => {
  let refused = true
  const fake = open({
    createModelProvider: () => {
      if (refused) throw new FoundryError({ code: Code.AlreadyExists, reason: 'ALREADY_EXISTS', message: 'it exists' })
      return { modelProvider: work }
    },
  })
  const dialog = await fill('work', 'sk-one')
  await within(dialog).findByText('ALREADY_EXISTS')
  const key = within(dialog).getByLabelText<HTMLInputElement>('Key')
  expect(key.value).toBe('')
  refused = false
  const again = within(dialog).getByRole('button', { name: 'Add model provider' })
  fireEvent.click(again)
  await within(dialog).findByText('Enter the key again: it was not saved.')
  fireEvent.change(key, { target: { value: 'sk-two' } })
  fireEvent.click(again)
  await waitFor(() => expect(screen.queryByRole('dialog')).toBeNull())
  const sent = made(fake, 'createModelProvider') as {
    requestId: string
    settings: { credential: { secret: { value: { value: string } } } }
  }[]
  expect(sent.map((it) => it.settings.credential.secret.value.value)).toEqual(['sk-one', 'sk-two'])
  // Another key makes another request.
  expect(sent[0]?.requestId).not.toBe(sent[1]?.requestId)
  expect(made(fake, 'listModelProviders')).toHaveLength(2)
})

test('a change sends what was changed, and keeps the key where none is entered', async () => {
  const fake = open({ updateModelProvider: () => ({ modelProvider: work }) })
  const change = async (field: string, value: string) => {
    fireEvent.click(await screen.findByRole('button', { name: 'Change work' }))
    const dialog = await screen.findByRole('dialog', { name: 'Change work' })
    fireEvent.change(within(dialog).getByLabelText(field), { target: { value } })
    fireEvent.click(within(dialog).getByRole('button', { name: 'Change model provider' }))
    await waitFor(() => expect(screen.queryByRole('dialog')).toBeNull(), { timeout: 10_000 })
  }
  await change('Base URL', 'https://models.example/v1')
  await change('New key', 'sk-new')
  await change('Models (optional)', '')
  interface Sent {
    expectedRev: bigint
    updateMask: { paths: string[] }
    settings: { baseUrl: string; credential?: { secret: { value: { value: string } } } }
  }
  const sent = made(fake, 'updateModelProvider') as Sent[]
  expect(sent.map((it) => it.updateMask.paths)).toEqual([['base_url'], ['credential']])
  expect(sent[0]?.settings.baseUrl).toBe('https://models.example/v1')
  expect(sent[0]?.settings.credential).toBeUndefined()
  expect(sent[1]?.settings.credential?.secret.value.value).toBe('sk-new')
  expect(sent[0]?.expectedRev).toBe(work.rev)
})

test('headers and prices are folded away, and are sent with what was typed', async () => {
  const fake = open({ createModelProvider: () => ({ modelProvider: work }) })
  fireEvent.click(await screen.findByRole('button', { name: 'Add model provider' }))
  const dialog = await screen.findByRole('dialog', { name: 'Add model provider' })
  const more = within(dialog).getByText('More: headers (0), prices (0)').closest('details')
  expect(more?.open).toBe(false)
  const type = (group: string, field: string, value: string) =>
    fireEvent.change(within(within(dialog).getByRole('group', { name: group })).getByLabelText(field), { target: { value } })
  fireEvent.change(within(dialog).getAllByLabelText('Name')[0]!, { target: { value: 'work' } })
  fireEvent.change(within(dialog).getByLabelText('Key'), { target: { value: 'sk-one' } })
  const [secret, plain] = ['Header 1', 'Header 2']
  for (let at = 0; at < 2; at += 1) fireEvent.click(within(dialog).getByText('Add header'))
  fireEvent.click(within(dialog).getByText('Add price'))
  fireEvent.click(within(dialog).getAllByRole('button', { name: 'Add model provider' }).at(-1)!)
  // The part opens because the error is in it.
  await waitFor(() => expect(more?.open).toBe(true))
  type(secret!, 'Name', 'x-key')
  type(secret!, 'Value', 'canary')
  type(plain!, 'Name', 'x-team')
  fireEvent.click(within(within(dialog).getByRole('group', { name: plain! })).getByLabelText('Secret'))
  type(plain!, 'Value', 'blue')
  for (const [field, value] of [
    ['Model', 'opus'],
    ['Input', '3'],
    ['Output', '15'],
    ['Cached', '0.3'],
  ])
    type('Price 1', field!, value!)
  fireEvent.click(within(dialog).getAllByRole('button', { name: 'Add model provider' }).at(-1)!)
  await waitFor(() => expect(screen.queryByRole('dialog')).toBeNull(), { timeout: 10_000 })
  expect(made(fake, 'createModelProvider')).toMatchObject([
    {
      settings: {
        headers: [
          { name: 'x-key', content: { case: 'secret', value: { value: 'canary' } } },
          { name: 'x-team', content: { case: 'value', value: 'blue' } },
        ],
        prices: [{ model: 'opus', inputMicros: 3_000_000n, outputMicros: 15_000_000n, cachedInputMicros: 300_000n }],
      },
    },
  ])
})

const header = (name: string) => ({ name, content: { case: 'secret' as const, value: {} } })
const changed = () =>
  new FoundryError({ code: Code.FailedPrecondition, reason: 'REVISION_CHANGED', message: 'the model provider has changed' })

/**
 * Opens the dialog that changes `work`, fills it in and sends it twice; before the first attempt, another person
 * saves `now`.
 */
async function overtaken(now: object, fill: (dialog: HTMLElement) => void, between: (dialog: HTMLElement) => void = nothing) {
  const theirs = create(ModelProviderSchema, { ...work, rev: 2n, ...now })
  const fake = open({
    getModelProvider: () => ({ modelProvider: theirs }),
    updateModelProvider: ({ expectedRev }: { expectedRev: bigint }) => {
      if (expectedRev !== 2n) throw changed()
      return { modelProvider: theirs }
    },
  })
  fireEvent.click(await screen.findByRole('button', { name: 'Change work' }))
  const dialog = await screen.findByRole('dialog', { name: 'Change work' })
  fill(dialog)
  fireEvent.click(within(dialog).getByRole('button', { name: 'Change model provider' }))
  await within(dialog).findByText('Someone else saved changes while you were editing.')
  between(dialog)
  fireEvent.click(within(dialog).getByRole('button', { name: 'Change model provider' }))
  await waitFor(() => expect(screen.queryByRole('dialog')).toBeNull(), { timeout: 10_000 })
  return made(fake, 'updateModelProvider') as {
    requestId: string
    updateMask: { paths: string[] }
    settings: { models: string[]; credential?: { secret: { value: { value: string } } } }
  }[]
}

const type = (dialog: HTMLElement, field: string, value: string) =>
  fireEvent.change(within(dialog).getByLabelText(field), { target: { value } })

test('a conflict with another person is shown, and the change is saved on top without typing its key again', async () => {
  const sent = await overtaken(
    { name: 'work-2', models: ['theirs'] },
    (dialog) => {
      type(dialog, 'Models (optional)', 'mine')
      type(dialog, 'New key', 'sk-new')
    },
    (dialog) => {
      expect(within(dialog).getByText('theirs')).toBeTruthy()
      expect(within(dialog).getAllByLabelText<HTMLInputElement>('Name')[0]?.value).toBe('work-2')
    },
  )
  expect(sent.map((it) => it.updateMask.paths)).toEqual([
    ['credential', 'models'],
    ['credential', 'models'],
  ])
  expect(sent[1]?.settings).toMatchObject({ models: ['mine'], credential: { secret: { value: { value: 'sk-new' } } } })
  expect(sent[0]?.requestId).not.toBe(sent[1]?.requestId)
})

test('a key entered for one address is not sent to another that someone else has set', async () => {
  const sent = await overtaken(
    { baseUrl: 'https://elsewhere.example' },
    (dialog) => type(dialog, 'New key', 'sk-new'),
    (dialog) => {
      expect(within(dialog).getByLabelText<HTMLInputElement>('New key').value).toBe('')
      expect(within(dialog).getByLabelText<HTMLInputElement>('Base URL').value).toBe('https://elsewhere.example')
      expect(within(dialog).getByText(/Enter the key again/)).toBeTruthy()
      type(dialog, 'New key', 'sk-for-elsewhere')
    },
  )
  expect(sent.map((it) => it.settings.credential?.secret.value.value)).toEqual(['sk-new', 'sk-for-elsewhere'])
})

test('a profile is changed field by field, and its secrets stay where none is entered', async () => {
  const settings = { name: 'night', agent: 'demo', environment: [header('TOKEN')], permissionPolicy: 1 }
  const night = create(AgentProfileSchema, { profileId: 'prf_1', rev: 5n, settings })
  const fake = open({ listAgentProfiles: () => ({ profiles: [night], nextPageToken: '' }), updateAgentProfile: () => ({ profile: night }) })
  await screen.findByText('TOKEN (secret)')
  fireEvent.click(screen.getByRole('button', { name: 'Change night' }))
  const dialog = await screen.findByRole('dialog', { name: 'Change night' })
  type(dialog, 'Effort (optional)', 'high')
  fireEvent.click(within(dialog).getByText('Allow all'))
  fireEvent.click(within(dialog).getByText('Add variable'))
  const added = within(within(dialog).getByRole('group', { name: 'Variable 2' }))
  fireEvent.change(added.getByLabelText('Name'), { target: { value: 'CI' } })
  fireEvent.click(added.getByLabelText('Secret'))
  fireEvent.change(added.getByLabelText('Value'), { target: { value: 'yes' } })
  fireEvent.click(within(dialog).getByRole('button', { name: 'Change agent profile' }))
  await waitFor(() => expect(screen.queryByRole('dialog')).toBeNull(), { timeout: 10_000 })
  expect(made(fake, 'updateAgentProfile')).toMatchObject([
    {
      profileId: 'prf_1',
      expectedRev: 5n,
      updateMask: { paths: ['effort', 'environment', 'permission_policy'] },
      settings: {
        effort: 'high',
        permissionPolicy: 2,
        environment: [
          { name: 'TOKEN', content: { case: 'secret', value: { value: '' } } },
          { name: 'CI', content: { case: 'value', value: 'yes' } },
        ],
      },
    },
  ])
})

const servers = {
  name: 'night',
  agent: 'demo',
  permissionPolicy: 1,
  mcpServers: [
    { name: 'web', transport: { case: 'http' as const, value: { url: 'https://mcp.example/', headers: [header('authorization')] } } },
    { name: 'later' },
  ],
}

/** Opens the dialog that changes a profile with MCP servers, with all parts unfolded. */
async function changeServers(calls: FakeCalls['profile'] = {}) {
  const night = create(AgentProfileSchema, { profileId: 'prf_1', rev: 5n, settings: servers })
  const fake = open({
    listAgentProfiles: () => ({ profiles: [night], nextPageToken: '' }),
    updateAgentProfile: () => ({ profile: night }),
    ...calls,
  })
  fireEvent.click(await screen.findByRole('button', { name: 'Change night' }))
  const dialog = await screen.findByRole('dialog', { name: 'Change night' })
  fireEvent.click(within(dialog).getByText('More: environment (0), MCP servers (2)'))
  const group = (name: string, of = dialog) => within(of).getByRole('group', { name })
  const send = () => fireEvent.click(within(dialog).getByRole('button', { name: 'Change agent profile' }))
  const gone = () => waitFor(() => expect(screen.queryByRole('dialog')).toBeNull(), { timeout: 10_000 })
  return { fake, dialog, group, send, gone }
}

test('MCP servers of a profile are shown, changed, added and removed', async () => {
  const { fake, dialog, group, send, gone } = await changeServers()
  expect(screen.getByText('web: https://mcp.example/, with authorization (secret); later: unknown kind')).toBeTruthy()
  const web = group('MCP server 1')
  expect(within(web).getAllByLabelText<HTMLInputElement>('Name')[0]?.value).toBe('web')
  expect(within(web).getByLabelText<HTMLInputElement>('URL').value).toBe('https://mcp.example/')
  expect(within(web).getByText(/stay outside the sandbox/)).toBeTruthy()
  const value = within(group('Header 1', web)).getByLabelText<HTMLInputElement>('Value')
  expect([value.value, value.placeholder]).toEqual(['', 'Leave empty to keep it'])
  expect(within(group('MCP server 2')).getByText(/this page does not support its kind/)).toBeTruthy()
  type(web, 'URL', 'https://mcp.example/tools')
  fireEvent.click(within(dialog).getByText('Add MCP server'))
  const files = group('MCP server 3')
  expect(document.activeElement).toBe(within(files).getByLabelText('Name'))
  type(files, 'Name', 'files')
  fireEvent.click(within(files).getByLabelText('Kind', { selector: 'input' }))
  fireEvent.click(await screen.findByRole('option', { name: 'Local command' }))
  expect(within(files).getByText(/passed into the sandbox, where the agent can read them/)).toBeTruthy()
  type(files, 'Command', 'npx')
  type(files, 'Arguments (optional)', '-y\nfiles-mcp')
  fireEvent.click(within(files).getByText('Add server variable'))
  const variable = group('Server variable 1', files)
  type(variable, 'Name', 'TOKEN')
  type(variable, 'Value', 'canary')
  fireEvent.click(within(dialog).getByRole('button', { name: 'Remove MCP server 2' }))
  expect(document.activeElement).toBe(group('MCP servers'))
  send()
  await gone()
  const [request] = made(fake, 'updateAgentProfile') as { updateMask: object; settings: { mcpServers: object[] } }[]
  expect(request?.updateMask).toMatchObject({ paths: ['mcp_servers'] })
  expect(request?.settings.mcpServers).toMatchObject([
    {
      name: 'web',
      transport: {
        case: 'http',
        value: {
          url: 'https://mcp.example/tools',
          headers: [{ name: 'authorization', content: { case: 'secret', value: { value: '' } } }],
        },
      },
    },
    {
      name: 'files',
      transport: {
        case: 'stdio',
        value: {
          command: 'npx',
          args: ['-y', 'files-mcp'],
          environment: [{ name: 'TOKEN', content: { case: 'secret', value: { value: 'canary' } } }],
        },
      },
    },
  ])
})

test('an MCP server at another address needs its secrets again, and what is refused of it keeps what was typed', async () => {
  let refused = true
  const { fake, dialog, group, send, gone } = await changeServers({
    updateAgentProfile: () => {
      if (!refused) return {}
      const fields = [{ field: 'settings.mcp_servers', description: 'has a value for authorization that is larger than 8 KiB' }]
      throw new FoundryError({ code: Code.InvalidArgument, reason: 'INVALID_ARGUMENT', message: 'no', fields })
    },
  })
  const web = group('MCP server 1')
  const value = within(group('Header 1', web)).getByLabelText<HTMLInputElement>('Value')
  type(web, 'URL', 'https://elsewhere.example/')
  expect(value.placeholder).toBe('')
  send()
  await within(group('Header 1', web)).findByText('The value is required.')
  fireEvent.change(value, { target: { value: 'Bearer one' } })
  send()
  const alert = await within(group('MCP servers')).findByRole('alert')
  expect(alert.textContent).toBe('Has a value for authorization that is larger than 8 KiB.')
  expect(within(dialog).queryByText('INVALID_ARGUMENT')).toBeNull()
  expect(within(web).getByLabelText<HTMLInputElement>('URL').value).toBe('https://elsewhere.example/')
  expect(value.value).toBe('')
  refused = false
  send()
  await within(web).findByText('Enter the value again: it was not saved.')
  fireEvent.change(value, { target: { value: 'Bearer two' } })
  send()
  await gone()
  const sent = made(fake, 'updateAgentProfile') as { settings: { mcpServers: object[] } }[]
  expect(sent[1]?.settings.mcpServers).toMatchObject([
    { name: 'web', transport: { value: { headers: [{ content: { value: { value: 'Bearer two' } } }] } } },
    { name: 'later' },
  ])
})

test('a secret typed while someone else moves its MCP server is not sent to the new address', async () => {
  const moved = { name: 'web', transport: { case: 'http' as const, value: { url: 'https://elsewhere.example/' } } }
  const theirs = create(AgentProfileSchema, { profileId: 'prf_1', rev: 6n, settings: { ...servers, mcpServers: [moved] } })
  const { fake, dialog, group, send, gone } = await changeServers({
    getAgentProfile: () => ({ profile: theirs }),
    updateAgentProfile: ({ expectedRev }: { expectedRev: bigint }) => {
      if (expectedRev === 6n) return {}
      fireEvent.change(within(group('Header 1')).getByLabelText('Value'), { target: { value: 'Bearer mine' } })
      throw changed()
    },
  })
  type(dialog, 'Effort (optional)', 'high')
  send()
  await within(dialog).findByText('Someone else saved changes while you were editing.')
  expect(within(dialog).getByText('web: https://elsewhere.example/')).toBeTruthy()
  expect(within(group('MCP server 1')).getByLabelText<HTMLInputElement>('URL').value).toBe('https://mcp.example/')
  send()
  await gone()
  const sent = made(fake, 'updateAgentProfile') as { updateMask: object; settings: { mcpServers: object[] } }[]
  expect(sent[1]?.updateMask).toMatchObject({ paths: ['effort', 'mcp_servers'] })
  expect(sent[1]?.settings.mcpServers[0]).toMatchObject({
    transport: { value: { url: 'https://mcp.example/', headers: [{ content: { value: { value: 'Bearer mine' } } }] } },
  })
})

test('a profile without MCP servers says so, and what is missing of a new one stands at its fields', async () => {
  open()
  fireEvent.click(await screen.findByRole('button', { name: 'Add agent profile' }))
  const dialog = await screen.findByRole('dialog', { name: 'Add agent profile' })
  type(dialog, 'Name', 'night')
  expect(within(dialog).getByText('No MCP servers yet.')).toBeTruthy()
  fireEvent.click(within(dialog).getByText('Add MCP server'))
  expect(within(dialog).queryByText('No MCP servers yet.')).toBeNull()
  const more = within(dialog).getByText('More: environment (0), MCP servers (1)').closest('details')
  fireEvent.click(within(dialog).getByRole('button', { name: 'Add agent profile' }))
  const added = within(within(dialog).getByRole('group', { name: 'MCP server 1' }))
  await added.findByText('The URL is required.')
  expect(added.getByText('A name is required.')).toBeTruthy()
  await waitFor(() => expect(more?.open).toBe(true))
})

test('a test says what is wrong and what to do', async () => {
  open({
    testModelProvider: () => ({
      result: 3,
      message: 'the host does not answer',
      nextAction: 'check the base URL',
      model: '',
      durationMillis: 12n,
    }),
  })
  fireEvent.click(await screen.findByRole('button', { name: 'Test work' }))
  expect(await screen.findByText('Host')).toBeTruthy()
  expect(screen.getByText(/The host does not answer\./)).toBeTruthy()
  expect(screen.getByText('Check the base URL.')).toBeTruthy()
})

test('a model provider that a profile uses stays, and the page says why', async () => {
  const fake = open({
    deleteModelProvider: () => {
      throw new FoundryError({ code: Code.FailedPrecondition, reason: 'MODEL_PROVIDER_IN_USE', message: 'it is used by night' })
    },
  })
  fireEvent.click(await screen.findByRole('button', { name: 'Remove work' }))
  fireEvent.click(await screen.findByRole('button', { name: 'Remove model provider' }, { timeout: 10_000 }))
  expect(await screen.findByText('MODEL_PROVIDER_IN_USE')).toBeTruthy()
  expect(screen.getByText('It is used by night.')).toBeTruthy()
  expect(made(fake, 'listModelProviders')).toHaveLength(1)
})

test('members who administer nothing read and are offered no change', async () => {
  open({}, false)
  await screen.findByText('work')
  await screen.findByText('No agent profiles yet')
  expect(screen.queryAllByRole('button')).toEqual([])
  expect(screen.getByText('Only admins and owners of the organization can make changes here.')).toBeTruthy()
})

test('a list that cannot be read says so and offers another attempt', async () => {
  let down = true
  open({
    listAgentProfiles: () => {
      if (down) throw new FoundryError({ code: Code.Unavailable, reason: 'SERVICE_UNREACHABLE', message: 'no answer' })
      return { profiles: [], nextPageToken: '' }
    },
  })
  await screen.findByText('The agent profiles could not be loaded')
  down = false
  fireEvent.click(screen.getByRole('button', { name: 'Try again' }))
  expect(await screen.findByText('No agent profiles yet')).toBeTruthy()
})

test('limits are shown with what is used of them, and set in tokens or dollars', async () => {
  const limit = create(ModelLimitSchema, { scope: 1, unit: 2, maximum: 5_000_000n, used: 5_100_000n })
  const fake = open({
    listModelLimits: () => ({ limits: [limit] }),
    listModelUsage: () => ({
      usage: [
        create(ModelUsageSchema, {
          modelProviderId: 'mpr_1',
          model: 'opus',
          calls: 3n,
          inputTokens: 1200n,
          outputTokens: 34n,
          costMicros: 5_100_000n,
        }),
      ],
    }),
    setModelLimit: () => ({ limit }),
  })
  await screen.findByText('$5.10, limit reached')
  expect(await screen.findByText('1,234')).toBeTruthy()
  fireEvent.click(screen.getByRole('button', { name: 'Set a limit' }))
  const dialog = await screen.findByRole('dialog', { name: 'Set a limit' })
  fireEvent.click(within(dialog).getByRole('button', { name: 'Set limit' }))
  expect(within(dialog).getByText(/a number above 0/)).toBeTruthy()
  fireEvent.change(within(dialog).getByLabelText('Limit'), { target: { value: '250000' } })
  fireEvent.click(within(dialog).getByRole('button', { name: 'Set limit' }))
  await waitFor(() => expect(screen.queryByRole('dialog')).toBeNull())
  expect(made(fake, 'setModelLimit')).toMatchObject([{ scope: 1, unit: 1, maximum: 250_000n, taskId: '' }])
})

import { create } from '@bufbuild/protobuf'
import {
  AgentProfileSchema,
  AgentProfileSettingsSchema,
  ModelProviderKind,
  ModelProviderSchema,
} from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { AgentSchema } from '@foundry/client/gen/foundry/provisioner/v1/provisioner_pb'
import { expect, test } from 'vitest'
import { changedPaths } from './draft'
import { choiceOf, chosen, profileDraft, profileFields, profileProblems, profileSettings } from './profileSettings'

const provider = (modelProviderId: string, kind: ModelProviderKind) =>
  create(ModelProviderSchema, { modelProviderId, name: modelProviderId, kind })
const providers = [provider('mpr_a', ModelProviderKind.ANTHROPIC), provider('mpr_o', ModelProviderKind.OPENAI)]
const agents = [
  create(AgentSchema, { name: 'claude', missingCredentials: ['anthropic'] }),
  create(AgentSchema, { name: 'codex', missingCredentials: ['openai'] }),
  create(AgentSchema, { name: 'demo' }),
]
const night = create(AgentProfileSchema, {
  settings: {
    name: 'night',
    agent: 'claude',
    modelProviderId: 'mpr_a',
    model: 'opus',
    environment: [{ name: 'TOKEN', content: { case: 'secret', value: {} } }],
    mcpServers: [
      {
        name: 'db',
        transport: {
          case: 'stdio',
          value: { command: 'db-mcp', environment: [{ name: 'PASSWORD', content: { case: 'secret', value: {} } }] },
        },
      },
    ],
    permissionPolicy: 2,
  },
})
const settled = (draft: ReturnType<typeof profileDraft>, of = agents) => chosen(draft, choiceOf(draft, of, providers))

test('what is not touched is not sent, whatever there is to choose from', () => {
  const draft = profileDraft(night)
  for (const of of [agents, []]) expect(changedPaths(profileFields(providers), draft, settled(draft, of), [])).toEqual([])
  const none = profileDraft(create(AgentProfileSchema, { settings: { name: 'bare', agent: 'claude' } }))
  expect(settled(none).modelProviderId).toBe('')
  expect(choiceOf(none, agents, providers).provider).toBeUndefined()
})

test('another agent is sent with the first model provider that suits it, or without one', () => {
  const draft = profileDraft(night)
  const other = (agent: string) => settled({ ...draft, agent, modelProviderId: null, model: '' })
  expect(other('codex')).toMatchObject({ agent: 'codex', modelProviderId: 'mpr_o' })
  expect(other('demo')).toMatchObject({ agent: 'demo', modelProviderId: '' })
  expect(changedPaths(profileFields(providers), draft, other('codex'), [])).toEqual(['agent', 'model_provider_id', 'model'])
})

test('a model provider that does not suit any more is still shown', () => {
  const odd = { ...profileDraft(night), modelProviderId: 'mpr_o' }
  expect(choiceOf(odd, agents, providers).providers.map((it) => it.modelProviderId)).toEqual(['mpr_a', 'mpr_o'])
})

test('secrets are sent empty, which keeps them', () => {
  const sent = profileSettings(profileDraft(night), () => '')
  expect(sent.environment).toEqual([{ name: 'TOKEN', content: { case: 'secret', value: { value: '' } } }])
  expect(create(AgentProfileSettingsSchema, { mcpServers: sent.mcpServers }).mcpServers).toEqual(night.settings?.mcpServers)
})

test('MCP servers are sent when one of them or one of their secrets is another', () => {
  const draft = profileDraft(night)
  const paths = (mine: typeof draft, secretly: string[] = []) => changedPaths(profileFields(providers), draft, mine, secretly)
  expect(paths({ ...draft, mcpServers: draft.mcpServers.map((it) => ({ ...it, command: 'other-mcp' })) })).toEqual(['mcp_servers'])
  expect(paths({ ...draft, mcpServers: [] })).toEqual(['mcp_servers'])
  expect(paths(draft, ['mcp_servers'])).toEqual(['mcp_servers'])
})

test('what is wrong with MCP servers is wrong with the profile', () => {
  const draft = profileDraft(night)
  const problems = profileProblems({ ...draft, mcpServers: draft.mcpServers.map((it) => ({ ...it, command: '' })) }, () => false)
  expect(problems['mcp_servers/db/command']).toBe('The command is required.')
})

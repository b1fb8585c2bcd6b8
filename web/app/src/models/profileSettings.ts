import { PermissionPolicy } from '@foundry/client/gen/foundry/common/v1/transcript_pb'
import type { AgentProfile, ModelProvider } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import type { Agent } from '@foundry/client/gen/foundry/provisioner/v1/provisioner_pb'
import type { Fields } from './draft'
import { entriesOf, entriesText, entryProblems, namedValues, sameVariable, type Entry } from './entries'
import { serverMessages, serverProblems, serverRows, serversText, type ServerRow } from './servers'
import type { Problems } from './useSettings'
import { nameProblem, suitable } from './words'

/** An agent profile as a form holds it. */
export interface ProfileDraft {
  readonly name: string
  /** Null = the first choice. */
  readonly agent: string | null
  /** Null = the first choice; empty = none. */
  readonly modelProviderId: string | null
  readonly model: string
  readonly mode: string
  readonly effort: string
  readonly environment: readonly Entry[]
  readonly mcpServers: readonly ServerRow[]
  readonly permissionPolicy: PermissionPolicy
  readonly isDefault: boolean
}

const blank: ProfileDraft = {
  name: '',
  agent: null,
  modelProviderId: null,
  model: '',
  mode: '',
  effort: '',
  environment: [],
  mcpServers: [],
  permissionPolicy: PermissionPolicy.ASK,
  isDefault: false,
}

/** The initial content of a form: the stored profile, or an empty one. */
export function profileDraft(profile: AgentProfile | undefined): ProfileDraft {
  if (profile?.settings === undefined) return blank
  const { name, agent, modelProviderId, model, mode, effort, environment, mcpServers, permissionPolicy, isDefault } = profile.settings
  const rest = { name, agent, modelProviderId, model, mode, effort, permissionPolicy, isDefault }
  return {
    ...rest,
    environment: entriesOf('environment', environment),
    mcpServers: serverRows(mcpServers),
  }
}

/** The fields of an agent profile; the names of `providers` are shown for their ids. */
export function profileFields(providers: readonly ModelProvider[]): Fields<ProfileDraft> {
  const text = (path: string, label: string) => ({ path, label, text: (it: string) => it.trim() })
  return {
    name: text('name', 'Name'),
    agent: { path: 'agent', label: 'Agent', text: (it) => it ?? '' },
    modelProviderId: {
      path: 'model_provider_id',
      label: 'Model provider',
      text: (it) => providers.find((each) => each.modelProviderId === it)?.name ?? it ?? '',
    },
    model: text('model', 'Model'),
    mode: text('mode', 'Mode'),
    effort: text('effort', 'Effort'),
    environment: { path: 'environment', label: 'Environment', text: entriesText },
    mcpServers: { path: 'mcp_servers', label: 'MCP servers', text: serversText },
    permissionPolicy: {
      path: 'permission_policy',
      label: 'Permissions',
      text: (it) => (it === PermissionPolicy.ALLOW ? 'allow all' : 'ask'),
    },
    isDefault: { path: 'is_default', label: 'Default for the organization', text: (it) => (it ? 'yes' : 'no') },
  }
}

/** The choices for a draft, and what is chosen. */
export interface Choice {
  readonly agent: string
  readonly providers: readonly ModelProvider[]
  readonly provider: ModelProvider | undefined
}

/**
 * The choice of a draft among these agents and model providers. What is stored stays chosen even if it is no longer
 * offered.
 */
export function choiceOf(draft: ProfileDraft, agents: readonly Agent[], providers: readonly ModelProvider[]): Choice {
  const agent = draft.agent ?? agents[0]?.name ?? ''
  const takes = agents.find((it) => it.name === agent)?.missingCredentials ?? []
  const fitting = suitable(providers, takes)
  const stored = providers.find((it) => it.modelProviderId === draft.modelProviderId)
  const provider = draft.modelProviderId === null ? fitting[0] : stored
  return { agent, provider, providers: provider === undefined || fitting.includes(provider) ? fitting : [...fitting, provider] }
}

/** A draft in which the first choices are filled in. */
export function chosen(draft: ProfileDraft, { agent, provider }: Choice): ProfileDraft {
  const modelProviderId = draft.modelProviderId ?? provider?.modelProviderId ?? ''
  return { ...draft, agent, modelProviderId, model: modelProviderId === '' ? '' : draft.model }
}

/** Problems of an agent profile. */
export function profileProblems({ name, agent, environment, mcpServers }: ProfileDraft, isGiven: (id: string) => boolean): Problems {
  return {
    name: nameProblem(name),
    agent: agent === '' ? 'An agent is required.' : undefined,
    ...entryProblems(environment, isGiven, sameVariable),
    ...serverProblems(mcpServers, isGiven),
  }
}

/** An agent profile as it is sent. */
export function profileSettings(draft: ProfileDraft, secretOf: (id: string) => string) {
  const { agent, modelProviderId, environment, mcpServers, permissionPolicy, isDefault } = draft
  const texts = { name: draft.name.trim(), model: draft.model.trim(), mode: draft.mode.trim(), effort: draft.effort.trim() }
  const chosen = { agent: agent ?? '', modelProviderId: modelProviderId ?? '', permissionPolicy, isDefault }
  return { ...texts, ...chosen, environment: namedValues(environment, secretOf), mcpServers: serverMessages(mcpServers, secretOf) }
}

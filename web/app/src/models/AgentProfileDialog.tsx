import { Checkbox, Group, Select, TextInput } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import type { AgentProfile, ModelProvider } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { PolicyField } from '../shell/newTask/fields'
import { useOrganization } from '../state/organization'
import { useProfileCalls } from '../state/profiles'
import { useRead } from '../state/read'
import { visibleLine } from '../ui/text/visible'
import { errorText } from '../ui'
import { More } from './More'
import { NamedValues } from './NamedValues'
import { choiceOf, chosen, profileDraft, profileFields, profileProblems, profileSettings, type ProfileDraft } from './profileSettings'
import { refusals, type Refusals } from './refusals'
import { Servers } from './Servers'
import { plain, SettingsDialog } from './SettingsDialog'
import { useSettings, type Sent, type Settings } from './useSettings'

interface Props {
  /** The profile to change; undefined = one is added. */
  profile?: AgentProfile
  providers: readonly ModelProvider[]
  onClose: () => void
  onChanged: () => void
}

const fields = [
  'name',
  'agent',
  'model_provider_id',
  'model',
  'mode',
  'effort',
  'environment',
  'mcp_servers',
  'permission_policy',
  'is_default',
] as const
type At = Refusals<(typeof fields)[number]>['at']

function useAgents() {
  const client = useFoundry()
  return useRead('agents', async (signal) => (await client.provisioner.listAgents({}, { signal })).agents)
}

function useProfile({ profile, providers, onClose, onChanged }: Props) {
  const calls = useProfileCalls()
  const { organizationId } = useOrganization()
  const agents = useAgents()
  const profileId = profile?.profileId ?? ''
  const deed = profile === undefined ? 'added' : 'changed'
  const choose = (draft: ProfileDraft) => choiceOf(draft, agents.data ?? [], providers)
  const send = async ({ requestId, draft, paths, rev, secretOf }: Sent<ProfileDraft>) => {
    const settings = profileSettings(draft, secretOf)
    if (rev === undefined) return await calls.createAgentProfile({ requestId, organizationId, settings })
    return await calls.updateAgentProfile({ requestId, profileId, expectedRev: rev, settings, updateMask: { paths } })
  }
  const form = useSettings<ProfileDraft, AgentProfile>({
    entity: profile,
    fields: profileFields(providers),
    draftOf: profileDraft,
    settled: (draft) => chosen(draft, choose(draft)),
    problemsOf: profileProblems,
    send,
    read: async () => (await calls.getAgentProfile({ profileId })).profile,
    mayKeepSecrets: () => true,
    words: { failed: `The agent profile was not ${deed}`, done: `The agent profile was ${deed}` },
    nameOf: (draft) => draft.name.trim(),
    onClose,
    onChanged,
  })
  return { form, agents, choice: choose(form.draft) }
}

/** A form that adds an agent profile or changes one. */
export function AgentProfileDialog(props: Props) {
  const { profile } = props
  const { form, agents, choice } = useProfile(props)
  const { draft, set, problems } = form
  const { at, rest } = refusals(form.error, fields)
  const isNew = profile === undefined
  return (
    <SettingsDialog
      title={isNew ? 'Add agent profile' : `Change ${visibleLine(profile.settings?.name ?? '')}`}
      deed={isNew ? 'Add agent profile' : 'Change agent profile'}
      busy={form.busy}
      onSend={() => void form.submit()}
      onClose={props.onClose}
      error={rest}
      failed={`The agent profile was not ${isNew ? 'added' : 'changed'}`}
      clashes={form.clashes}
    >
      <TextInput
        {...plain}
        label="Name"
        placeholder="night"
        data-autofocus
        value={draft.name}
        onChange={(event) => set({ name: event.currentTarget.value })}
        error={problems['name'] ?? at.name}
      />
      <AgentField agents={agents} choice={choice} form={form} error={at.agent} />
      <ProviderField agents={agents} choice={choice} form={form} error={at.model_provider_id} />
      <ModelField choice={choice} form={form} error={at.model} />
      <Group grow align="start">
        <NamedByAgent label="Mode (optional)" value={draft.mode} onChange={(mode) => set({ mode })} error={at.mode} />
        <NamedByAgent label="Effort (optional)" value={draft.effort} onChange={(effort) => set({ effort })} error={at.effort} />
      </Group>
      <PolicyField value={draft.permissionPolicy} onChange={(permissionPolicy) => set({ permissionPolicy })} />
      <Checkbox
        label="Default for the organization"
        description="For tasks without a chosen profile or agent"
        checked={draft.isDefault}
        onChange={(event) => set({ isDefault: event.currentTarget.checked })}
      />
      <MoreFields form={form} at={at} />
    </SettingsDialog>
  )
}

interface FieldProps {
  form: Settings<ProfileDraft>
  choice: ReturnType<typeof choiceOf>
  error: string | undefined
}

type Agents = ReturnType<typeof useAgents>

/** Agent, model provider and model: each narrows the next. */
function AgentField({ agents, choice, form, error }: FieldProps & { agents: Agents }) {
  const offered = (agents.data ?? []).map((it) => ({ value: it.name, label: it.displayName || it.name }))
  const isOffered = choice.agent === '' || offered.some((it) => it.value === choice.agent)
  return (
    <Select
      label="Agent"
      data={isOffered ? offered : [...offered, { value: choice.agent, label: visibleLine(choice.agent) }]}
      value={choice.agent === '' ? null : choice.agent}
      onChange={(agent) => form.set({ agent, modelProviderId: null, model: '', mode: '', effort: '' })}
      allowDeselect={false}
      placeholder={agents.loading ? 'Loading…' : 'None'}
      error={form.problems['agent'] ?? error ?? (agents.error && errorText(agents.error).message)}
    />
  )
}

function ProviderField({ agents, choice, form, error }: FieldProps & { agents: Agents }) {
  const takes = agents.data?.find((it) => it.name === choice.agent)?.missingCredentials ?? []
  const none = takes.length === 0 ? 'The agent needs none' : `No provider of kind ${takes.join(' or ')}`
  return (
    <Select
      label="Model provider"
      data={choice.providers.map((it) => ({ value: it.modelProviderId, label: visibleLine(it.name) }))}
      value={choice.provider?.modelProviderId ?? null}
      onChange={(modelProviderId) => form.set({ modelProviderId, model: '' })}
      allowDeselect={false}
      disabled={choice.providers.length === 0}
      placeholder={choice.providers.length === 0 ? none : 'None'}
      error={error}
    />
  )
}

function ModelField({ choice, form, error }: FieldProps) {
  const { draft, set } = form
  const models = choice.provider?.models ?? []
  const props = { label: 'Model (optional)', disabled: choice.provider === undefined, error }
  if (models.length === 0) {
    return (
      <TextInput
        {...plain}
        {...props}
        placeholder="The agent's default"
        value={draft.model}
        onChange={(event) => set({ model: event.currentTarget.value })}
      />
    )
  }
  const offered = draft.model === '' || models.includes(draft.model) ? models : [...models, draft.model]
  return (
    <Select
      {...props}
      data={offered.map((it) => ({ value: it, label: visibleLine(it) }))}
      value={draft.model === '' ? null : draft.model}
      onChange={(model) => set({ model: model ?? '' })}
      clearable
      placeholder={`${visibleLine(models[0] ?? '')} (the first)`}
    />
  )
}

function NamedByAgent({
  label,
  value,
  onChange,
  error,
}: {
  label: string
  value: string
  onChange: (value: string) => void
  error: string | undefined
}) {
  return (
    <TextInput
      {...plain}
      label={label}
      placeholder="As named by the agent"
      value={value}
      onChange={(event) => onChange(event.currentTarget.value)}
      error={error}
    />
  )
}

/** Rarely used fields, with the service's errors about them. */
function MoreFields({ form, at }: { form: Settings<ProfileDraft>; at: At }) {
  const { draft, set, problems, secrets } = form
  const wrong = Object.entries(problems).some(([id, it]) => it !== undefined && /^(environment|mcp_servers)\//.test(id))
  const title = `More: environment (${draft.environment.length}), MCP servers (${draft.mcpServers.length})`
  return (
    <More title={title} problems={form.problems} wrong={wrong || at.environment !== undefined || at.mcp_servers !== undefined}>
      <NamedValues
        list="environment"
        title="Environment"
        one="Variable"
        about="Environment variables for the agent. Secret values are stored encrypted and never shown, but are passed into the sandbox, where the agent can read them."
        placeholder="NPM_TOKEN"
        entries={draft.environment}
        onEntries={(environment) => set({ environment })}
        problems={problems}
        secrets={secrets}
        error={at.environment}
      />
      <Servers
        servers={draft.mcpServers}
        onServers={(mcpServers) => set({ mcpServers })}
        problems={problems}
        secrets={secrets}
        error={at.mcp_servers}
      />
    </More>
  )
}

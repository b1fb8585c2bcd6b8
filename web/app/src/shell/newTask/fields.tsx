import { Input, Select, SegmentedControl, Textarea } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { PermissionPolicy } from '@foundry/client/gen/foundry/common/v1/transcript_pb'
import type { AgentProfile } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import type { Provider } from '@foundry/client/gen/foundry/provisioner/v1/provisioner_pb'
import { useEffect, useId } from 'react'
import { DRAFT_LIMIT } from '../../state/draft'
import { useOrganization } from '../../state/organization'
import { useModelProviders } from '../../state/profiles'
import { useRead, type Read } from '../../state/read'
import { errorText, repositoryStatus, StatusIcon } from '../../ui'
import { byteLength } from '../../ui/text/size'
import { visibleLine } from '../../ui/text/visible'
import { agentChoices, asDoers, firstUsable, profileChoices, profileOf, providerChoices, type Choice } from './choices'
import classes from './NewTaskDialog.module.css'

export interface FieldProps {
  /** null = the service's default. */
  value: string | null
  onChange: (value: string | null) => void
}

interface PromptProps {
  text: string
  onType: (text: string) => void
  /** Why it cannot be sent; shown after the first attempt. */
  problem: string | undefined
}

/** The prompt; kept as a draft on the server up to its size limit. */
export function PromptField({ text, onType, problem }: PromptProps) {
  const isDraft = byteLength(text) <= DRAFT_LIMIT
  const where = isDraft ? 'Saved as a draft while you type.' : 'Too long for a draft on the server. Saved in this browser only.'
  return (
    <Textarea
      label="Prompt"
      description={`What should be done. ${where}`}
      placeholder="Fix the flaky test in …"
      autosize
      minRows={5}
      maxRows={16}
      dir="auto"
      data-autofocus
      value={text}
      onChange={(event) => onType(event.currentTarget.value)}
      error={problem}
      required
      withAsterisk={false}
    />
  )
}

/** The repository, with the state of its mirror. */
export function RepositoryField({ value, onChange }: { value: string; onChange: (value: string) => void }) {
  const { repositories } = useOrganization()
  const chosen = repositories.find((it) => it.repositoryId === value)
  const status = repositoryStatus(chosen?.state ?? '')
  const words: Record<string, string> = {
    pending: 'Its mirror is being created. The task starts when it is ready.',
    error: `Its last sync failed (${visibleLine(chosen?.reason ?? '')}). The task starts from older data, if any.`,
    deleting: 'It is being deleted. No task can start in it.',
  }
  return (
    <Select
      label="Repository"
      data={repositories.map((it) => ({ value: it.repositoryId, label: visibleLine(it.name), disabled: it.state === 'deleting' }))}
      value={value}
      onChange={(it) => it !== null && onChange(it)}
      allowDeselect={false}
      searchable={repositories.length > 8}
      leftSection={<StatusIcon status={status} />}
      description={words[chosen?.state ?? '']}
      inputWrapperOrder={['label', 'input', 'description', 'error']}
    />
  )
}

interface DoerProps extends FieldProps {
  profiles: Read<AgentProfile[]>
}

/** The profile, or an agent alone; unusable agents show the reason. */
export function AgentField({ profiles, value, onChange }: DoerProps) {
  const client = useFoundry()
  const { organizationId } = useOrganization()
  const agents = useRead('agents', (signal) => client.provisioner.listAgents({}, { signal }))
  const models = useModelProviders(organizationId)
  // The default is known only when the profiles are loaded.
  const known = agents.data !== undefined && !profiles.loading && !models.loading
  const list = known ? asDoers(agentChoices(agents.data?.agents ?? [], models.data)) : []
  const named = known ? profileChoices(profiles.data ?? []) : []
  const initial = profileOf(null, profiles.data ?? [])
  const read = {
    loading: agents.loading || profiles.loading || models.loading,
    error: agents.error ?? profiles.error,
  }
  return (
    <ChoiceField
      label={named.length === 0 ? 'Agent' : 'Agent or profile'}
      groups={
        named.length === 0
          ? undefined
          : [
              { group: 'Profiles', items: named },
              { group: 'Agents', items: list },
            ]
      }
      choices={initial === undefined ? list : profileChoices([initial])}
      read={read}
      value={value}
      onChange={onChange}
    />
  )
}

/** How a provider isolates its sandboxes, with their network access and limits. */
function describedPlace(place: Provider | undefined): string | undefined {
  if (place === undefined) return undefined
  return [place.isolation, place.network && `network ${place.network}`, place.limits && `limits: ${place.limits}`]
    .filter((it) => it !== '')
    .join('; ')
}

/** The sandbox provider. */
export function ProviderField({ value, onChange }: FieldProps) {
  const client = useFoundry()
  const providers = useRead('providers', (signal) => client.provisioner.listProviders({}, { signal }))
  const list = providers.data?.providers ?? []
  const shown = value ?? firstUsable(providerChoices(list))
  return (
    <ChoiceField
      label="Sandbox"
      choices={providerChoices(list)}
      read={providers}
      value={value}
      onChange={onChange}
      description={describedPlace(list.find((it) => it.name === shown))}
    />
  )
}

interface ChoiceFieldProps extends FieldProps {
  label: string
  /** The default first. */
  choices: readonly Choice[]
  /** All choices in groups, when there are more than `choices`. */
  groups?: { group: string; items: Choice[] }[]
  read: Pick<Read<unknown>, 'loading' | 'error'>
  description?: string
}

function ChoiceField({ label, choices, groups, read, value, onChange, description }: ChoiceFieldProps) {
  const instead = choices[0]?.disabled === true ? firstUsable(choices) : null
  useEffect(() => {
    // The default cannot be used: the choice that is shown must be the one that is sent.
    if (value === null && instead !== null) onChange(instead)
  }, [value, instead, onChange])
  return (
    <Select
      label={label}
      data={groups ?? [...choices]}
      value={value ?? firstUsable(choices)}
      onChange={onChange}
      allowDeselect={false}
      placeholder={read.loading ? 'Loading…' : 'Default'}
      nothingFoundMessage="None"
      description={description}
      inputWrapperOrder={['label', 'input', 'description', 'error']}
      error={readError(read)}
    />
  )
}

/** Why the choices of a field could not be read. */
export function readError(read: Pick<Read<unknown>, 'error'>): string | undefined {
  if (read.error === undefined) return undefined
  const { message, reason } = errorText(read.error)
  return `${message} (${reason})`
}

const policies = {
  ask: {
    value: PermissionPolicy.ASK,
    text: 'The agent asks whenever it needs permission; any member can answer.',
  },
  allow: { value: PermissionPolicy.ALLOW, text: 'Everything is allowed inside the sandbox without asking.' },
}

/** How permission requests of the agent are answered. */
export function PolicyField({ value, onChange }: { value: PermissionPolicy; onChange: (value: PermissionPolicy) => void }) {
  const id = useId()
  const word = value === PermissionPolicy.ALLOW ? 'allow' : 'ask'
  return (
    <div role="group" aria-labelledby={id}>
      <Input.Label id={id} labelElement="div" size="sm" mb={2}>
        Permissions
      </Input.Label>
      <SegmentedControl
        fullWidth
        aria-labelledby={id}
        value={word}
        onChange={(it) => onChange(policies[it].value)}
        data={[
          { value: 'ask', label: 'Ask a person' },
          { value: 'allow', label: 'Allow all' },
        ]}
      />
      <div className={classes.policy}>{policies[word].text}</div>
    </div>
  )
}

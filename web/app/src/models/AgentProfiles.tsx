import { Button, Group } from '@mantine/core'
import { PermissionPolicy } from '@foundry/client/gen/foundry/common/v1/transcript_pb'
import type { AgentProfile, ModelProvider } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { IconPencil, IconTrash } from '@tabler/icons-react'
import { useState } from 'react'
import { useFrame } from '../shell/frame'
import { useProfileCalls } from '../state/profiles'
import { RemovalDialog } from '../state/RemovalDialog'
import type { Read } from '../state/read'
import { visibleLine } from '../ui/text/visible'
import { useFocusBack } from '../ui'
import { AgentProfileDialog } from './AgentProfileDialog'
import { entriesOf, entriesText } from './entries'
import classes from './ModelsPage.module.css'
import { Fact, Section } from './Section'
import { serverRows, serversText } from './servers'
import { secretsInside } from './words'

interface Props {
  read: Read<AgentProfile[]>
  providers: readonly ModelProvider[]
}

/** The agent profiles of the organization. */
export function AgentProfiles({ read, providers }: Props) {
  const [adds, setAdds] = useState(false)
  const [changes, setChanges] = useState<AgentProfile>()
  const [removes, setRemoves] = useState<AgentProfile>()
  useFocusBack(adds || changes !== undefined || removes !== undefined)
  return (
    <>
      <Section
        title="Agent profiles"
        about="Named agent configurations (agent, model, settings) to choose for tasks. Changes apply when an agent next starts."
        addLabel="Add agent profile"
        onAdd={() => setAdds(true)}
        read={read}
        none="Without a profile, an agent uses the first suitable model provider."
      >
        {(profile) => (
          <Row
            key={profile.profileId}
            profile={profile}
            providers={providers}
            onChange={() => setChanges(profile)}
            onRemove={() => setRemoves(profile)}
          />
        )}
      </Section>
      {adds && <AgentProfileDialog providers={providers} onClose={() => setAdds(false)} onChanged={read.reload} />}
      {changes !== undefined && (
        <AgentProfileDialog profile={changes} providers={providers} onClose={() => setChanges(undefined)} onChanged={read.reload} />
      )}
      {removes !== undefined && <RemoveDialog profile={removes} onClose={() => setRemoves(undefined)} onRemoved={read.reload} />}
    </>
  )
}

interface RowProps {
  profile: AgentProfile
  providers: readonly ModelProvider[]
  onChange: () => void
  onRemove: () => void
}

function Row({ profile, providers, onChange, onRemove }: RowProps) {
  const { canAdminister } = useFrame()
  const { settings } = profile
  if (settings === undefined) return null
  const name = visibleLine(settings.name)
  const provider = providers.find((it) => it.modelProviderId === settings.modelProviderId)
  const inside = secretsInside(settings)
  return (
    <li className={classes.entry}>
      <div className={classes.line}>
        <div className={classes.name}>
          <bdi>{name}</bdi>
          {settings.isDefault && <span className={classes.tag}>default</span>}
        </div>
        {canAdminister && (
          <Group gap="xs">
            <Button variant="default" leftSection={<IconPencil size={14} />} onClick={onChange} aria-label={`Change ${name}`}>
              Change
            </Button>
            <Button variant="default" leftSection={<IconTrash size={14} />} onClick={onRemove} aria-label={`Remove ${name}`}>
              Remove
            </Button>
          </Group>
        )}
      </div>
      <dl className={classes.facts}>
        <Fact name="Agent">{visibleLine(settings.agent)}</Fact>
        {settings.modelProviderId !== '' && <Fact name="Model provider">{visibleLine(provider?.name ?? settings.modelProviderId)}</Fact>}
        <Fact name="Model">{settings.model === '' ? 'default' : visibleLine(settings.model)}</Fact>
        {settings.mode !== '' && <Fact name="Mode">{visibleLine(settings.mode)}</Fact>}
        {settings.effort !== '' && <Fact name="Effort">{visibleLine(settings.effort)}</Fact>}
        {settings.environment.length > 0 && (
          <Fact name="Environment">{visibleLine(entriesText(entriesOf('environment', settings.environment)))}</Fact>
        )}
        {settings.mcpServers.length > 0 && <Fact name="MCP servers">{visibleLine(serversText(serverRows(settings.mcpServers)))}</Fact>}
        {inside.length > 0 && <Fact name="Secrets passed into the sandbox">{visibleLine(inside.join(', '))}</Fact>}
        <Fact name="Permissions">{settings.permissionPolicy === PermissionPolicy.ALLOW ? 'allow all' : 'ask'}</Fact>
      </dl>
    </li>
  )
}

function RemoveDialog({ profile, onClose, onRemoved }: { profile: AgentProfile; onClose: () => void; onRemoved: () => void }) {
  const calls = useProfileCalls()
  const { profileId } = profile
  const name = visibleLine(profile.settings?.name ?? '')
  return (
    <RemovalDialog
      title={`Remove ${name}?`}
      confirmLabel="Remove agent profile"
      failed="The agent profile was not removed"
      done="The agent profile was removed"
      name={name}
      remove={(requestId) => calls.deleteAgentProfile({ profileId, requestId })}
      onClose={onClose}
      onRemoved={onRemoved}
    >
      Running agents are not affected. Tasks that use it cannot restart their agent.
    </RemovalDialog>
  )
}

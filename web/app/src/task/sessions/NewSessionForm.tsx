import { Button, Group, Select, TextInput } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { PermissionPolicy } from '@foundry/client/gen/foundry/common/v1/transcript_pb'
import type { Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useState } from 'react'
import { agentChoices } from '../../shell/newTask/choices'
import { noSettings, SettingsFields, type AgentSettings } from '../../shell/newTask/SettingsFields'
import { useModelProviders } from '../../state/profiles'
import { ErrorState } from '../../ui'
import { useCommand } from '../../state/command'
import { useRead } from '../../state/read'
import classes from './sessions.module.css'

/** Name, agent and policy of a new session. */
export function NewSessionForm({ task, onCreated }: { task: Task; onCreated: (sessionId: string) => void }) {
  const client = useFoundry()
  const { taskId } = task
  const [name, setName] = useState('')
  const [agent, setAgent] = useState(task.agent)
  const [policy, setPolicy] = useState(String(task.permissionPolicy || PermissionPolicy.ASK))
  const [settings, setSettings] = useState(noSettings)
  const agents = useRead('agents', (signal) => client.provisioner.listAgents({}, { signal }))
  const models = useModelProviders(task.organizationId)
  const create = useCommand(
    'The session was not created',
    (requestId: string, chosen: { name: string; agent: string; policy: number; settings: AgentSettings }) =>
      client.task.createSession({
        requestId,
        taskId,
        name: chosen.name,
        agent: chosen.agent,
        permissionPolicy: chosen.policy,
        settings: chosen.settings,
      }),
  )
  const submit = async () => {
    const created = await create.run({ name: name.trim(), agent, policy: Number(policy), settings })
    if (created?.session !== undefined) onCreated(created.session.sessionId)
  }
  const known = agents.data?.agents ?? []
  const choices = agentChoices(known, models.data)
  if (!choices.some((each) => each.value === task.agent)) choices.unshift({ value: task.agent, label: task.agent, disabled: false })
  return (
    <form
      className={classes.newSession}
      onSubmit={(event) => {
        event.preventDefault()
        void submit()
      }}
    >
      <TextInput
        label="Name"
        placeholder="Generated"
        value={name}
        maxLength={80}
        dir="auto"
        data-autofocus
        onChange={(event) => setName(event.currentTarget.value)}
      />
      <Select
        label="Agent"
        data={choices}
        value={agent}
        onChange={(value) => value !== null && setAgent(value)}
        allowDeselect={false}
        comboboxProps={{ withinPortal: false }}
        error={agents.error !== undefined ? 'Other agents could not be loaded' : undefined}
      />
      <Select
        label="Permissions"
        data={[
          { value: String(PermissionPolicy.ASK), label: 'Ask a person' },
          { value: String(PermissionPolicy.ALLOW), label: 'Allow all' },
        ]}
        value={policy}
        onChange={(value) => value !== null && setPolicy(value)}
        allowDeselect={false}
        comboboxProps={{ withinPortal: false }}
      />
      <SettingsFields value={settings} onChange={setSettings} />
      {create.error !== undefined && <ErrorState error={create.error} title="The session was not created" compact />}
      <Group justify="flex-end">
        <Button type="submit" loading={create.busy}>
          Start session
        </Button>
      </Group>
    </form>
  )
}

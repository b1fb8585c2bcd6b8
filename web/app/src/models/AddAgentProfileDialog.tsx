import { Button, Checkbox, Group, Modal, Select, Stack, TextInput } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { PermissionPolicy } from '@foundry/client/gen/foundry/common/v1/transcript_pb'
import type { ModelProvider } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { useState, type FormEvent } from 'react'
import { PolicyField } from '../shell/newTask/fields'
import { useCommand } from '../state/command'
import { useOrganization } from '../state/organization'
import { useProfileCalls } from '../state/profiles'
import { useRead } from '../state/read'
import { useAlive } from '../task/model/useCommand'
import { visibleLine } from '../task/text/visible'
import { ErrorState, errorText, toastDone } from '../ui'
import { refusals } from './refusals'
import { nameProblem, suitable } from './words'

interface Props {
  providers: readonly ModelProvider[]
  onClose: () => void
  onAdded: () => void
}

const blank = {
  name: '',
  // Null = the first to choose from.
  agent: null as string | null,
  modelProviderId: null as string | null,
  model: '',
  mode: '',
  effort: '',
  permissionPolicy: PermissionPolicy.ASK,
  isDefault: false,
}

/** What the dialog holds, what there is to choose from, and how it is sent. */
function useAdd({ providers, onClose, onAdded }: Props) {
  const client = useFoundry()
  const calls = useProfileCalls()
  const { organizationId } = useOrganization()
  const [chosen, setChosen] = useState(blank)
  const [tried, setTried] = useState(false)
  const alive = useAlive()
  const agents = useRead('agents', (signal) => client.provisioner.listAgents({}, { signal }))
  const add = useCommand(
    (settings: Omit<typeof blank, 'agent' | 'modelProviderId'> & { agent: string; modelProviderId: string }, requestId) =>
      calls.createAgentProfile({ requestId, organizationId, settings }),
    'The agent profile was not added',
  )
  const list = agents.value?.agents ?? []
  const agent = list.find((it) => it.name === chosen.agent) ?? list[0]
  const fitting = suitable(providers, agent?.missingCredentials ?? [])
  const provider = fitting.find((it) => it.modelProviderId === chosen.modelProviderId) ?? fitting[0]
  const problem = nameProblem(chosen.name)
  const set = (change: Partial<typeof blank>) => setChosen((before) => ({ ...before, ...change }))
  const send = async (event: FormEvent) => {
    event.preventDefault()
    setTried(true)
    if (problem !== undefined || agent === undefined) return
    const texts = { name: chosen.name.trim(), mode: chosen.mode.trim(), effort: chosen.effort.trim() }
    const modelProviderId = provider?.modelProviderId ?? ''
    const model = provider === undefined ? '' : chosen.model.trim()
    const answer = await add.run({ ...chosen, ...texts, agent: agent.name, modelProviderId, model })
    if (answer === undefined) return
    toastDone('The agent profile was added', texts.name)
    onAdded()
    if (alive.current) onClose()
  }
  return { chosen, set, agents, list, agent, fitting, provider, problem: tried ? problem : undefined, add, send }
}

/** Asks for an agent profile and adds it. */
export function AddAgentProfileDialog(props: Props) {
  const form = useAdd(props)
  const { chosen, set, problem, add, send } = form
  const { at, rest } = refusals(add.error, ['name', 'agent', 'model_provider_id', 'model', 'mode', 'effort', 'permission_policy'])
  const plain = { autoCapitalize: 'none', autoComplete: 'off', spellCheck: false }
  return (
    <Modal opened onClose={props.onClose} title="Add agent profile">
      <form onSubmit={(event) => void send(event)} noValidate>
        <Stack gap="sm">
          <TextInput
            {...plain}
            label="Name"
            placeholder="night"
            data-autofocus
            value={chosen.name}
            onChange={(event) => set({ name: event.currentTarget.value })}
            error={problem ?? at.name}
          />
          <ModelFields form={form} at={at} />
          <Group grow align="start">
            <TextInput
              {...plain}
              label="Mode (optional)"
              placeholder="As the agent names it"
              value={chosen.mode}
              onChange={(event) => set({ mode: event.currentTarget.value })}
              error={at.mode}
            />
            <TextInput
              {...plain}
              label="Effort (optional)"
              placeholder="As the agent names it"
              value={chosen.effort}
              onChange={(event) => set({ effort: event.currentTarget.value })}
              error={at.effort}
            />
          </Group>
          <PolicyField value={chosen.permissionPolicy} onChange={(permissionPolicy) => set({ permissionPolicy })} />
          <Checkbox
            label="Default of the organization"
            description="For tasks that choose nothing else"
            checked={chosen.isDefault}
            onChange={(event) => set({ isDefault: event.currentTarget.checked })}
          />
          {rest !== undefined && <ErrorState error={rest} title="The agent profile was not added" compact />}
        </Stack>
        <Group justify="flex-end" gap="xs" mt="lg">
          <Button variant="default" size="sm" onClick={props.onClose}>
            Cancel
          </Button>
          <Button type="submit" size="sm" loading={add.busy}>
            Add agent profile
          </Button>
        </Group>
      </form>
    </Modal>
  )
}

/** Agent, model provider and model: each narrows the next. */
function ModelFields({ form, at }: { form: ReturnType<typeof useAdd>; at: { agent?: string; model_provider_id?: string; model?: string } }) {
  const { chosen, set, agents, list, agent, fitting, provider } = form
  const takes = agent?.missingCredentials ?? []
  const models = provider?.models ?? []
  const model = { label: 'Model (optional)', disabled: provider === undefined, error: at.model }
  return (
    <>
      <Select
        label="Agent"
        data={list.map((it) => ({ value: it.name, label: it.displayName || it.name }))}
        value={agent?.name ?? null}
        onChange={(it) => set({ agent: it, modelProviderId: null, model: '', mode: '', effort: '' })}
        allowDeselect={false}
        placeholder={agents.loading ? 'Loading…' : 'None'}
        error={at.agent ?? (agents.error && errorText(agents.error).message)}
      />
      <Select
        label="Model provider"
        data={fitting.map((it) => ({ value: it.modelProviderId, label: visibleLine(it.name) }))}
        value={provider?.modelProviderId ?? null}
        onChange={(it) => set({ modelProviderId: it, model: '' })}
        allowDeselect={false}
        disabled={fitting.length === 0}
        placeholder={takes.length === 0 ? 'The agent needs none' : `None of its kinds: ${takes.join(', ')}`}
        error={at.model_provider_id}
      />
      {models.length > 0 ? (
        <Select
          {...model}
          data={models.map((it) => ({ value: it, label: visibleLine(it) }))}
          value={chosen.model === '' ? null : chosen.model}
          onChange={(it) => set({ model: it ?? '' })}
          clearable
          placeholder={`${visibleLine(models[0] ?? '')} (the first)`}
        />
      ) : (
        <TextInput
          {...model}
          autoCapitalize="none"
          autoComplete="off"
          spellCheck={false}
          placeholder="Default of the agent"
          value={chosen.model}
          onChange={(event) => set({ model: event.currentTarget.value })}
        />
      )}
    </>
  )
}

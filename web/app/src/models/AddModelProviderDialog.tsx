import { Button, Group, Modal, PasswordInput, Select, Stack, TextInput } from '@mantine/core'
import type { ModelProviderKind } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { useState, type FormEvent } from 'react'
import { useCommand } from '../state/command'
import { useOrganization } from '../state/organization'
import { useProfileCalls } from '../state/profiles'
import { useAlive } from '../task/model/useCommand'
import { ErrorState, toastDone } from '../ui'
import { refusals } from './refusals'
import { useKey } from './useKey'
import { addressProblem, keyProblem, kindOf, kinds, modelNames, nameProblem } from './words'

interface Props {
  onClose: () => void
  onAdded: () => void
}

interface Input {
  name: string
  kind: ModelProviderKind
  baseUrl: string
  models: string[]
  /** Counts the keys that were sent, so that another key is another request. */
  attempt: number
}

/** What the dialog holds and how it is sent. */
function useAdd({ onClose, onAdded }: Props) {
  const calls = useProfileCalls()
  const { organizationId } = useOrganization()
  const [kind, setKind] = useState(kinds[0]?.kind ?? 0)
  const [name, setName] = useState('')
  // Undefined = that of the kind.
  const [typedUrl, setUrl] = useState<string>()
  const [models, setModels] = useState('')
  const [problems, setProblems] = useState<Record<string, string | undefined>>({})
  const key = useKey()
  const alive = useAlive()
  const url = typedUrl ?? kindOf(kind).url
  const add = useCommand(({ attempt: _, ...settings }: Input, requestId) => {
    const secret = { case: 'key' as const, value: { value: key.key.current } }
    const credential = key.key.current === '' ? undefined : { secret }
    return calls.createModelProvider({ requestId, organizationId, settings: { ...settings, credential } })
  }, 'The model provider was not added')
  const send = async (event: FormEvent) => {
    event.preventDefault()
    if (add.busy) return
    const isGiven = key.isGiven()
    const found = {
      name: nameProblem(name),
      url: addressProblem(url),
      key: key.wasSent && !isGiven ? 'Enter the key again: it was not kept.' : keyProblem(kindOf(kind), url, isGiven),
    }
    setProblems(found)
    if (Object.values(found).some((it) => it !== undefined)) return
    const attempt = key.take()
    const answer = await add.run({ name: name.trim(), kind, baseUrl: url.trim(), models: modelNames(models), attempt })
    key.forget()
    if (answer === undefined) return
    toastDone('The model provider was added', name.trim())
    onAdded()
    if (alive.current) onClose()
  }
  return { kind, setKind, name, setName, url, setUrl, models, setModels, problems, key, add, send }
}

/** Asks for a model provider and adds it. */
export function AddModelProviderDialog(props: Props) {
  const { kind, setKind, name, setName, url, setUrl, models, setModels, problems, key, add, send } = useAdd(props)
  const { at, rest } = refusals(add.error, ['name', 'kind', 'base_url', 'credential', 'models'])
  const plain = { autoCapitalize: 'none', autoComplete: 'off', spellCheck: false }
  return (
    <Modal opened onClose={props.onClose} title="Add model provider">
      <form onSubmit={(event) => void send(event)} noValidate>
        <Stack gap="sm">
          <Select
            label="Kind"
            data={kinds.map((it) => ({ value: String(it.kind), label: it.text }))}
            value={String(kind)}
            onChange={(it) => it !== null && setKind(Number(it))}
            allowDeselect={false}
            error={at.kind}
          />
          <TextInput
            {...plain}
            label="Name"
            placeholder="work"
            data-autofocus
            value={name}
            onChange={(event) => setName(event.currentTarget.value)}
            error={problems.name ?? at.name}
          />
          <TextInput
            {...plain}
            label="Address"
            placeholder="http://127.0.0.1:11434/v1"
            value={url}
            onChange={(event) => setUrl(event.currentTarget.value)}
            error={problems.url ?? at.base_url}
          />
          <PasswordInput
            ref={key.field}
            label="Key"
            description="Kept encrypted and never shown again. A local model may need none."
            autoComplete="off"
            spellCheck={false}
            error={problems.key ?? at.credential}
            visibilityToggleButtonProps={{ 'aria-label': 'Show the key' }}
          />
          <TextInput
            {...plain}
            label="Models (optional)"
            description="Names of those that may be used, separated by commas; empty = any"
            value={models}
            onChange={(event) => setModels(event.currentTarget.value)}
            error={at.models}
          />
          {rest !== undefined && <ErrorState error={rest} title="The model provider was not added" compact />}
        </Stack>
        <Group justify="flex-end" gap="xs" mt="lg">
          <Button variant="default" size="sm" onClick={props.onClose}>
            Cancel
          </Button>
          <Button type="submit" size="sm" loading={add.busy}>
            Add model provider
          </Button>
        </Group>
      </form>
    </Modal>
  )
}

import { Button, Group, Modal, Select, Stack, TextInput } from '@mantine/core'
import type { FoundryError } from '@foundry/client'
import { useFoundry } from '@foundry/client/react'
import type { ShellOrganization } from '@foundry/client/gen/foundry/auth/v1/auth_pb'
import { useState, type SubmitEvent } from 'react'
import { useCommand } from '../state/command'
import { visibleLine } from '../ui/text/visible'
import { ErrorState, sentence, toastNotice, useAlive } from '../ui'
import { CreatedToken, type Created } from './CreatedToken'

const DAY = 86_400n
const FAILED = 'The access token was not created'

/** Days until a token expires; empty = never. The service allows up to 366. */
const lifetimes = [
  { value: '7', label: '7 days' },
  { value: '30', label: '30 days' },
  { value: '90', label: '90 days' },
  { value: '365', label: '1 year' },
  { value: '', label: 'Never' },
]

interface Props {
  /** The organization that is chosen at first. */
  organizationId: string
  organizations: readonly ShellOrganization[]
  onClose: () => void
  /** Called when a token was created, also when this dialog is closed already. */
  onCreated: () => void
}

interface Draft {
  readonly name: string
  readonly days: string
  readonly organizationId: string
}

/**
 * A form that creates an access token, and then shows its value, which exists only in this dialog: it is gone when the
 * dialog is closed.
 */
export function CreateTokenDialog({ organizationId, organizations, onClose, onCreated }: Props) {
  const client = useFoundry()
  const [created, setCreated] = useState<Created>()
  const create = useCommand(FAILED, (requestId: string, { name, days, organizationId }: Draft) => {
    const lifetime = days === '' ? undefined : { seconds: BigInt(days) * DAY, nanos: 0 }
    return client.auth.createAccessToken({ requestId, organizationId, name, lifetime })
  })
  const alive = useAlive()
  const send = async (draft: Draft) => {
    const answer = await create.run(draft)
    if (answer === undefined) return
    onCreated()
    if (alive.current) setCreated({ name: visibleLine(draft.name), secret: answer.secret })
    else toastNotice('The access token was created', 'You closed the dialog before its value arrived: revoke it, and create another one.')
  }
  if (created !== undefined) return <CreatedToken created={created} onClose={onClose} />
  return (
    <Modal opened onClose={onClose} title="Create access token">
      <Form
        organizationId={organizationId}
        organizations={organizations}
        busy={create.busy}
        error={create.error}
        onSend={(draft) => void send(draft)}
        onClose={onClose}
      />
    </Modal>
  )
}

interface FormProps extends Omit<Props, 'onCreated'> {
  busy: boolean
  error: FoundryError | undefined
  onSend: (draft: Draft) => void
}

function Form({ organizationId, organizations, busy, error, onSend, onClose }: FormProps) {
  const [draft, setDraft] = useState<Draft>({ name: '', days: '90', organizationId })
  const [missing, setMissing] = useState(false)
  const set = (change: Partial<Draft>) => setDraft((before) => ({ ...before, ...change }))
  const about = error?.fields.find((it) => it.field === 'name')?.description
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    if (busy) return
    const name = draft.name.trim()
    setMissing(name === '')
    if (name !== '') onSend({ ...draft, name })
  }
  return (
    <form onSubmit={submit} noValidate>
      <Stack gap="sm">
        <TextInput
          autoComplete="off"
          spellCheck={false}
          label="Name"
          description="What it is for, so that you know it in the list."
          placeholder="laptop"
          data-autofocus
          value={draft.name}
          onChange={(event) => set({ name: event.currentTarget.value })}
          error={missing ? 'The name is required.' : about === undefined ? undefined : sentence(about)}
        />
        {organizations.length > 1 && (
          <Select
            label="Organization"
            data={organizations.map((it) => ({ value: it.organizationId, label: visibleLine(it.name) }))}
            value={draft.organizationId}
            onChange={(it) => it !== null && set({ organizationId: it })}
            allowDeselect={false}
          />
        )}
        <Select
          label="Expires after"
          data={lifetimes}
          value={draft.days}
          onChange={(it) => it !== null && set({ days: it })}
          allowDeselect={false}
        />
        {error !== undefined && about === undefined && <ErrorState error={error} title={FAILED} compact />}
      </Stack>
      <Group justify="flex-end" gap="xs" mt="lg">
        <Button variant="default" size="sm" onClick={onClose}>
          Cancel
        </Button>
        <Button type="submit" size="sm" loading={busy}>
          Create access token
        </Button>
      </Group>
    </form>
  )
}

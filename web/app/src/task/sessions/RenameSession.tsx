import { Button, Group, Modal, TextInput } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import type { Session } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useState } from 'react'
import { ErrorState } from '../../ui'
import { useCommand } from '../../state/command'

const LONGEST = 80

interface Props {
  session: Session
  opened: boolean
  onClose: () => void
}

/** A dialog for a new name of a session. */
export function RenameSession({ session, opened, onClose }: Props) {
  const client = useFoundry()
  const [name, setName] = useState(session.name)
  const { sessionId } = session
  const rename = useCommand('The session was not renamed', (requestId: string, to: string) =>
    client.task.renameSession({ requestId, sessionId, name: to }),
  )
  const submit = async () => {
    if ((await rename.run(name.trim())) !== undefined) onClose()
  }
  return (
    <Modal opened={opened} onClose={onClose} title="Rename session" size="sm">
      <form
        onSubmit={(event) => {
          event.preventDefault()
          void submit()
        }}
      >
        <TextInput
          label="Name"
          value={name}
          maxLength={LONGEST}
          dir="auto"
          data-autofocus
          onChange={(event) => setName(event.currentTarget.value)}
        />
        {rename.error !== undefined && <ErrorState error={rename.error} title="The session was not renamed" compact />}
        <Group justify="flex-end" gap="xs" mt="md">
          <Button variant="default" onClick={onClose}>
            Cancel
          </Button>
          <Button type="submit" loading={rename.busy} disabled={name.trim() === ''}>
            Rename
          </Button>
        </Group>
      </form>
    </Modal>
  )
}

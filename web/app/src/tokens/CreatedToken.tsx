import { Button, Group, Modal, Stack } from '@mantine/core'
import { CopyLine } from '../ui'

/** A token that was just created. */
export interface Created {
  /** Its name, made visible. */
  readonly name: string
  /** Its value; empty if the service had sent it already and the answer was lost. */
  readonly secret: string
}

/** Shows the value of a new access token, once. A click beside the dialog does not close it. */
export function CreatedToken({ created, onClose }: { created: Created; onClose: () => void }) {
  const { name, secret } = created
  return (
    <Modal opened onClose={onClose} title={`Access token ${name}`} closeOnClickOutside={false}>
      {secret === '' ? (
        <p role="alert">
          The access token was created, but its value was lost on the way here and is never sent again. Revoke it, and create another one.
        </p>
      ) : (
        <Stack gap="sm">
          <p role="status">Copy the value now: it is not shown again.</p>
          <CopyLine text={secret} label="Copy the token" />
          <p>
            For <code>foundry</code>, set it in the shell:
          </p>
          <CopyLine text={`export FOUNDRY_TOKEN=${secret}`} label="Copy the command" />
        </Stack>
      )}
      <Group justify="flex-end" mt="lg">
        <Button size="sm" onClick={onClose} data-autofocus>
          Done
        </Button>
      </Group>
    </Modal>
  )
}

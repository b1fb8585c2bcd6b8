import { Button, Group, Modal, Text } from '@mantine/core'
import type { ReactNode } from 'react'
import { ErrorState } from './ErrorState'

interface Props {
  opened: boolean
  onClose: () => void
  onConfirm: () => void
  title: string
  /** What will happen, and what will not. */
  children: ReactNode
  /** Name of the action, for example "Delete repository". */
  confirmLabel: string
  /** Whether something is lost for ever. */
  dangerous?: boolean
  busy?: boolean
  error?: unknown
}

/** Asks before something that cannot be undone. The safe answer has the focus. */
export function ConfirmDialog(props: Props) {
  const { opened, onClose, onConfirm, title, children, confirmLabel, dangerous = false, busy = false, error } = props
  return (
    <Modal opened={opened} onClose={onClose} title={title} size="sm">
      <Text size="sm" component="div">
        {children}
      </Text>
      {error !== undefined && error !== null && (
        <div style={{ marginTop: 12 }}>
          <ErrorState error={error} title="The action failed" compact />
        </div>
      )}
      <Group justify="flex-end" gap="xs" mt="lg">
        <Button variant="default" onClick={onClose} data-autofocus>
          Cancel
        </Button>
        <Button color={dangerous ? 'red.9' : undefined} onClick={onConfirm} loading={busy}>
          {confirmLabel}
        </Button>
      </Group>
    </Modal>
  )
}

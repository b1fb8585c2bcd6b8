import type { ReactNode } from 'react'
import { ConfirmDialog, toastDone, useAlive } from '../ui'
import { useCommand } from './command'

interface Props {
  /** The question, for example "Remove build?". */
  title: string
  /** Name of the action, for example "Remove webhook". */
  confirmLabel: string
  /** What to say if it fails, for example "The webhook was not removed". */
  failed: string
  /** What to say afterwards, for example "The webhook was removed". */
  done: string
  /** Name of what is removed, made visible; empty if the texts name it. */
  name?: string
  remove: (requestId: string) => Promise<object>
  onClose: () => void
  onRemoved: () => void
  /** What is lost, and what is not. */
  children: ReactNode
}

/** Asks before something is removed or revoked, does it, and says so. It stays open with the error if that fails. */
export function RemovalDialog({ title, confirmLabel, failed, done, name = '', remove, onClose, onRemoved, children }: Props) {
  const command = useCommand(failed, remove)
  const alive = useAlive()
  const confirm = async () => {
    if ((await command.run()) === undefined) return
    toastDone(done, name)
    onRemoved()
    // What it was about may be gone from the page, and the dialog with it.
    if (alive.current) onClose()
  }
  return (
    <ConfirmDialog
      opened
      onClose={onClose}
      onConfirm={() => void confirm()}
      title={title}
      confirmLabel={confirmLabel}
      dangerous
      busy={command.busy}
      error={command.error}
    >
      {children}
    </ConfirmDialog>
  )
}

import { Button, Group, Modal, Stack } from '@mantine/core'
import type { FoundryError } from '@foundry/client'
import { IconUsers } from '@tabler/icons-react'
import type { ReactNode, SubmitEvent } from 'react'
import { visibleLine } from '../ui/text/visible'
import { ErrorState } from '../ui'
import type { Clash } from './draft'
import classes from './ModelsPage.module.css'

/** Attributes of fields for names and addresses, which are not prose. */
export const plain = { autoCapitalize: 'none', autoComplete: 'off', spellCheck: false }

interface Props {
  title: string
  /** Text of the button that sends the form. */
  deed: string
  busy: boolean
  onSend: () => void
  onClose: () => void
  /** The error below the fields, with `failed` as its title. */
  error: FoundryError | undefined
  failed: string
  /** Fields that another person has changed too; undefined = no conflict. */
  clashes?: readonly Clash[]
  children: ReactNode
}

/** A dialog with settings, which are sent or cancelled. */
export function SettingsDialog({ title, deed, busy, onSend, onClose, error, failed, clashes, children }: Props) {
  const send = (event: SubmitEvent) => {
    event.preventDefault()
    if (!busy) onSend()
  }
  return (
    <Modal opened onClose={onClose} title={title}>
      <form onSubmit={send} noValidate>
        <Stack gap="sm">
          {children}
          {clashes !== undefined && <Clashes clashes={clashes} deed={deed} />}
          {error !== undefined && <ErrorState error={error} title={failed} compact />}
        </Stack>
        <Group justify="flex-end" gap="xs" mt="lg">
          <Button variant="default" size="sm" onClick={onClose}>
            Cancel
          </Button>
          <Button type="submit" size="sm" loading={busy}>
            {deed}
          </Button>
        </Group>
      </form>
    </Modal>
  )
}

/** Explains a conflict: another person saved first, which fields both changed, and what to do. */
function Clashes({ clashes, deed }: { clashes: readonly Clash[]; deed: string }) {
  return (
    <div role="alert" className={classes.clashes}>
      <IconUsers size={18} aria-hidden />
      <div>
        <p>
          <strong>Someone else saved changes while you were editing.</strong> Your changes are not saved yet. Fields you did not change show
          the current values.
        </p>
        {clashes.length > 0 && (
          <>
            <p>You both changed:</p>
            <ul>
              {clashes.map(({ label, now }) => (
                <li key={label}>
                  {label}, now: <bdi>{now === '' ? 'empty' : visibleLine(now)}</bdi>
                </li>
              ))}
            </ul>
          </>
        )}
        <p>
          “{deed}” saves what you see here{clashes.length > 0 && ' and overwrites theirs'}.
        </p>
      </div>
    </div>
  )
}

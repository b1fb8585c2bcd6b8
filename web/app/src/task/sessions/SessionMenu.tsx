import { ActionIcon, Menu, Tooltip } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { IconDots, IconHistory, IconPencil, IconX } from '@tabler/icons-react'
import { SessionState, type Session } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useState } from 'react'
import { ConfirmDialog, lazyDialog } from '../../ui'
import { useClearedUnless, useCommand } from '../../state/command'
import { InertLine } from '../../ui/text/Inert'
import { sessionTitle } from './title'

const Rename = lazyDialog('The session could not be renamed', () => import('./RenameSession').then((it) => it.RenameSession))

interface Props {
  session: Session | undefined
  closed: readonly Session[]
  onSelect: (sessionId: string) => void
  canEdit: boolean
}

/** The actions on the selected session, and the list of closed ones. */
export function SessionMenu({ session, closed, onSelect, canEdit }: Props) {
  const [asking, setAsking] = useState<'rename' | 'close' | undefined>(undefined)
  const open = session !== undefined && session.state !== SessionState.CLOSED
  if (!(open && canEdit) && closed.length === 0) return null
  return (
    <>
      <Menu>
        <Menu.Target>
          <Tooltip label="Session menu">
            <ActionIcon aria-label="Session menu">
              <IconDots size={16} />
            </ActionIcon>
          </Tooltip>
        </Menu.Target>
        <Menu.Dropdown>
          {canEdit && session !== undefined && (
            <Menu.Item leftSection={<IconPencil size={15} />} onClick={() => setAsking('rename')}>
              Rename session…
            </Menu.Item>
          )}
          {canEdit && open && (
            <Menu.Item leftSection={<IconX size={15} />} onClick={() => setAsking('close')}>
              Close session…
            </Menu.Item>
          )}
          {closed.length > 0 && (
            <>
              <Menu.Label>Closed sessions</Menu.Label>
              {closed.map((each) => (
                <Menu.Item key={each.sessionId} leftSection={<IconHistory size={15} />} onClick={() => onSelect(each.sessionId)}>
                  <InertLine text={sessionTitle(each)} />
                </Menu.Item>
              ))}
            </>
          )}
        </Menu.Dropdown>
      </Menu>
      {session !== undefined && (
        <>
          <Rename
            key={`${session.sessionId}-${asking}`}
            session={session}
            opened={asking === 'rename'}
            onClose={() => setAsking(undefined)}
          />
          <Close key={session.sessionId} session={session} opened={asking === 'close'} onClose={() => setAsking(undefined)} />
        </>
      )}
    </>
  )
}

interface DialogProps {
  session: Session
  opened: boolean
  onClose: () => void
}

function Close({ session, opened, onClose }: DialogProps) {
  const client = useFoundry()
  const { sessionId } = session
  const close = useCommand('The session was not closed', (requestId: string) => client.task.closeSession({ requestId, sessionId }))
  useClearedUnless(opened, close)
  const confirm = async () => {
    if ((await close.run()) !== undefined) onClose()
  }
  return (
    <ConfirmDialog
      opened={opened}
      onClose={onClose}
      onConfirm={() => void confirm()}
      title="Close this session?"
      confirmLabel="Close session"
      busy={close.busy}
      error={close.error}
    >
      A running turn is stopped and queued messages are not delivered. The transcript stays readable.
    </ConfirmDialog>
  )
}

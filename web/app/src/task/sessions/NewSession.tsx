import { ActionIcon, Popover, Tooltip } from '@mantine/core'
import { IconPlus } from '@tabler/icons-react'
import type { Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useState } from 'react'
import { Part, useDialogPart } from '../../ui'
import { isEnded } from '../header/Actions'

const formPart = new Part(() => import('./NewSessionForm').then((it) => it.NewSessionForm))

/** Most sessions of a task. */
const MAX_SESSIONS = 10

interface Props {
  task: Task
  /** Number of open sessions. */
  open: number
  onCreated: (sessionId: string) => void
}

/** Starts another conversation in the same sandbox, with the same agent or another one. */
export function NewSession({ task, open, onCreated }: Props) {
  const [asked, setAsked] = useState(false)
  const Form = useDialogPart(formPart, 'The form for a new session could not be opened', asked, () => setAsked(false))
  // Only when the form is loaded, because opening moves the focus to it.
  const opened = asked && Form !== undefined
  const full = open >= MAX_SESSIONS
  const label = full ? `The limit is ${MAX_SESSIONS} sessions per task` : 'New session'
  if (isEnded(task)) return null
  return (
    <Popover opened={opened} onChange={setAsked} position="bottom-start" shadow="md" trapFocus width={280} withRoles>
      <Popover.Target>
        <Tooltip label={label} disabled={opened}>
          <ActionIcon aria-label={label} disabled={full} onClick={() => setAsked(!asked)}>
            <IconPlus size={16} />
          </ActionIcon>
        </Tooltip>
      </Popover.Target>
      <Popover.Dropdown>
        {Form !== undefined && (
          <Form
            task={task}
            onCreated={(sessionId) => {
              setAsked(false)
              onCreated(sessionId)
            }}
          />
        )}
      </Popover.Dropdown>
    </Popover>
  )
}

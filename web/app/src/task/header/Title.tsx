import { ActionIcon, Button, TextInput, Tooltip } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { IconPencil } from '@tabler/icons-react'
import type { Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useState } from 'react'
import { ErrorState, useFocusOnReturn } from '../../ui'
import { useCommand } from '../../state/command'
import { InertLine } from '../../ui/text/Inert'
import classes from './header.module.css'

const LONGEST = 120

/** The title of a task, which can be changed in place. */
export function Title({ task, canEdit }: { task: Task; canEdit: boolean }) {
  const [editing, setEditing] = useState(false)
  const pencil = useFocusOnReturn(editing)
  if (editing) return <Rename task={task} onDone={() => setEditing(false)} />
  return (
    <div className={classes.titleLine}>
      <h1 className={classes.title}>
        <InertLine text={task.title === '' ? 'Untitled task' : task.title} />
      </h1>
      {canEdit && (
        <Tooltip label="Rename">
          <ActionIcon ref={pencil} size="sm" aria-label="Rename the task" onClick={() => setEditing(true)}>
            <IconPencil size={14} />
          </ActionIcon>
        </Tooltip>
      )}
    </div>
  )
}

function Rename({ task, onDone }: { task: Task; onDone: () => void }) {
  const client = useFoundry()
  const [title, setTitle] = useState(task.title)
  const rename = useCommand('The task was not renamed', (requestId: string, to: string) =>
    client.task.updateTask({ requestId, taskId: task.taskId, title: to }),
  )
  const trimmed = title.trim()
  const submit = async () => {
    if (trimmed === '' || trimmed === task.title) return onDone()
    if ((await rename.run(trimmed)) !== undefined) onDone()
  }
  return (
    <form
      className={classes.rename}
      onSubmit={(event) => {
        event.preventDefault()
        void submit()
      }}
    >
      <TextInput
        aria-label="Task title"
        value={title}
        maxLength={LONGEST}
        onChange={(event) => setTitle(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key !== 'Escape') return
          event.stopPropagation()
          onDone()
        }}
        onFocus={(event) => event.currentTarget.select()}
        autoFocus
        dir="auto"
      />
      <Button type="submit" loading={rename.busy}>
        Save
      </Button>
      <Button variant="default" onClick={onDone}>
        Cancel
      </Button>
      {rename.error !== undefined && <ErrorState error={rename.error} title="The task was not renamed" compact />}
    </form>
  )
}

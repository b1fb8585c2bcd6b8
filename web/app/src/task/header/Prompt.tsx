import { Button } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import type { Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useState } from 'react'
import { ErrorState, TextSkeleton } from '../../ui'
import { useRead } from '../../state/read'
import { InertLine, InertText } from '../../ui/text/Inert'
import { SHOWN_FIRST } from '../../ui/text/limits'
import { LongText } from '../../ui/text/LongText'
import { oneLine, sizeText } from '../../ui/text/size'
import classes from './header.module.css'

/** The prompt: its first line, and all of it on demand. */
export function Prompt({ task }: { task: Task }) {
  const [open, setOpen] = useState(false)
  if (task.promptPreview === '') return null
  return (
    <div className={classes.prompt}>
      {!open && <InertLine text={oneLine(task.promptPreview)} className={classes.promptLine} />}
      <Button
        size="compact-xs"
        variant="subtle"
        color="gray"
        aria-expanded={open}
        onClick={() => setOpen(!open)}
        className={classes.promptButton}
      >
        {open ? 'Hide prompt' : 'Show full prompt'}
      </Button>
      {open && <Whole task={task} />}
    </div>
  )
}

function Whole({ task }: { task: Task }) {
  const client = useFoundry()
  const { taskId } = task
  const cut = Number(task.promptSize) > new TextEncoder().encode(task.promptPreview).length
  const whole = useRead(cut ? taskId : undefined, (signal) => client.task.getTaskPrompt({ taskId }, { signal }))
  if (whole.error !== undefined)
    return <ErrorState error={whole.error} title="The prompt could not be loaded" compact onRetry={whole.reload} />
  if (cut && whole.data === undefined) return <TextSkeleton lines={4} label="Loading the prompt" />
  const text = whole.data?.prompt ?? task.promptPreview
  return (
    <div className={classes.promptText}>
      {text.length > SHOWN_FIRST ? <LongText text={text} label="Prompt" /> : <InertText text={text} />}
      <div className="fd-muted">{sizeText(task.promptSize)}</div>
    </div>
  )
}

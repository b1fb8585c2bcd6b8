import { Button, Select, Textarea } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { IconSend } from '@tabler/icons-react'
import { SessionState, type FileChange, type Session, type Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useState, type KeyboardEvent } from 'react'
import { ErrorState, Kbd, toastDone } from '../../../ui'
import { useClearedUnless, useCommand } from '../../../state/command'
import { useDraft } from '../../../state/useDraft'
import { counted } from '../../../ui/text/size'
import { visibleLine } from '../../../ui/text/visible'
import { usePlace } from '../../model/usePlace'
import classes from './review.module.css'
import { useReviewHere } from './useReview'

interface Props {
  task: Task
  sessions: readonly Session[]
  /** The files that are listed. */
  files: readonly FileChange[]
  userId: string
}

/** How far the review is, and sending it. */
export function SendReview({ task, sessions, files, userId }: Props) {
  const client = useFoundry()
  const review = useReviewHere()
  const place = usePlace()
  const { taskId, organizationId } = task
  const [open, setOpen] = useState(false)
  const [chosen, setChosen] = useState<string | null>(null)
  const { draft, text } = useDraft(organizationId, `review/${taskId}`, { userId: userId === '' ? undefined : userId })
  const count = review.comments.length
  const targets = sessions.filter((session) => session.state !== SessionState.CLOSED)
  const target = [chosen, place.session].map((id) => targets.find((it) => it.sessionId === id)).find((it) => it !== undefined) ?? targets[0]
  const send = useCommand('The review was not sent', (requestId: string, sessionId: string, words: string) =>
    client.task.submitReview({ requestId, taskId, sessionId, text: words }),
  )
  useClearedUnless(open, send)
  const sendable = target !== undefined && (count > 0 || text.trim() !== '')
  const submit = async () => {
    if (!sendable || (await send.run(target.sessionId, text)) === undefined) return
    draft.sent(text)
    setOpen(false)
    toastDone('Review sent', `${counted(count, 'comment')} in the queue of ${visibleLine(target.name)}.`)
  }
  const keys = (event: KeyboardEvent) => {
    if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey) || event.nativeEvent.isComposing) return
    event.preventDefault()
    void submit()
  }
  const viewed = files.filter(review.isViewed).length
  return (
    <section className={classes.bar} aria-label="Review">
      <div className={classes.status}>
        <span role="status">
          {count === 0 ? 'No comments' : counted(count, 'comment')}, {viewed} of {files.length} viewed
        </span>
        <span className={classes.keys}>
          <Kbd keys="n" /> <Kbd keys="p" /> file, <Kbd keys="v" /> viewed, <Kbd keys="c" /> comment
        </span>
        {review.canComment && (
          <Button
            size="compact-sm"
            variant={count > 0 ? 'filled' : 'default'}
            leftSection={<IconSend size={14} />}
            aria-expanded={open}
            onClick={() => setOpen(!open)}
          >
            Send review
          </Button>
        )}
      </div>
      {open && review.canComment && (
        <form
          className={classes.editor}
          aria-label="Send review"
          onSubmit={(event) => {
            event.preventDefault()
            void submit()
          }}
        >
          {review.editor !== undefined && (
            <p role="alert" className={classes.held}>
              The comment that you are writing is not kept yet, and is not sent.
            </p>
          )}
          {send.error !== undefined && <ErrorState error={send.error} title="The review was not sent" compact />}
          <Textarea
            aria-label="Summary of the review"
            placeholder="Summary (optional)"
            autoFocus
            value={text}
            onChange={(event) => draft.edit(event.currentTarget.value)}
            onKeyDown={keys}
            onBlur={() => void draft.flush()}
            autosize
            minRows={2}
            maxRows={10}
            dir="auto"
          />
          <div className={classes.buttons}>
            {targets.length > 1 && (
              <Select
                aria-label="Session that gets the review"
                size="xs"
                data={targets.map((it) => ({ value: it.sessionId, label: visibleLine(it.name) }))}
                value={target?.sessionId ?? null}
                onChange={setChosen}
                allowDeselect={false}
              />
            )}
            <span className={classes.hint}>
              <Kbd keys="mod+Enter" /> send
            </span>
            <Button variant="default" size="compact-sm" onClick={() => setOpen(false)}>
              Close
            </Button>
            <Button type="submit" size="compact-sm" disabled={!sendable} loading={send.busy}>
              Send {counted(count, 'comment')}
            </Button>
          </div>
        </form>
      )}
    </section>
  )
}

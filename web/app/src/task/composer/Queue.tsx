import { ActionIcon, Button, Loader, Textarea, Tooltip } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import type { Attachment } from '@foundry/client/gen/foundry/common/v1/transcript_pb'
import { IconPaperclip, IconPencil, IconPlayerPlay, IconTrash, IconX } from '@tabler/icons-react'
import { QueuedMessageState, SessionState, type QueuedMessage, type Session } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useEffect, useRef, useState } from 'react'
import { ErrorState, TextSkeleton, toastNotice, useFocusOnReturn } from '../../ui'
import { useClearedUnless, useCommand } from '../../state/command'
import { useRead } from '../../state/read'
import { InertLine } from '../../ui/text/Inert'
import { visibleLine } from '../../ui/text/visible'
import { byteLength, counted, oneLine, sizeText } from '../../ui/text/size'
import { MAX_MESSAGE_BYTES } from './Composer'
import classes from './composer.module.css'
import type { Echo } from './useEchoes'

interface Props {
  session: Session
  queue: readonly QueuedMessage[]
  echoes: readonly Echo[]
  /** Whether the person may change the queue. */
  canEdit: boolean
}

/** Queued messages: they can be read, changed and removed until they are delivered. */
export function Queue({ session, queue, echoes, canEdit }: Props) {
  const client = useFoundry()
  const { sessionId } = session
  const resume = useCommand('The queue was not resumed', (requestId: string) => client.task.resumeQueue({ requestId, sessionId }))
  const quota = waitsForQuota(session)
  useClearedUnless(session.queueHeld || quota, resume)
  if (queue.length + echoes.length === 0 && !quota) return null
  const held = session.queueHeld && queue.length > 0
  return (
    <section className={classes.queue} aria-label="Queued messages">
      <header className={classes.queueHead} data-held={held}>
        <span>
          {held
            ? `${counted(queue.length, 'queued message')}: paused after a stop or an error`
            : quota
              ? 'Messages are sent automatically when the quota of the model provider resets'
              : `${counted(queue.length + echoes.length, 'queued message')}, waiting ${waitsFor(session.state)}`}
        </span>
        {(held || quota) && canEdit && (
          <Button
            size="compact-xs"
            variant="default"
            leftSection={<IconPlayerPlay size={12} />}
            loading={resume.busy}
            onClick={() => void resume.run()}
          >
            {held ? 'Resume' : 'Resume now'}
          </Button>
        )}
      </header>
      {resume.error !== undefined && <ErrorState error={resume.error} title="The queue was not resumed" compact />}
      <ol className={classes.messages}>
        {queue.map((message) => (
          <Message key={message.messageId} message={message} canEdit={canEdit} />
        ))}
        {echoes.map((echo) => (
          <li key={echo.requestId} className={classes.message} aria-busy>
            <Loader size={12} aria-label="Sending" />
            <InertLine text={oneLine(echo.text)} className={classes.preview} />
          </li>
        ))}
      </ol>
    </section>
  )
}

/** Whether messages are held back until a time that the model provider named. */
function waitsForQuota({ condition }: Session): boolean {
  // Waits of the agent itself, a minute at most, need no action.
  return condition?.reason === 'MODEL_QUOTA' && condition.nextAttemptTime !== undefined && condition.waitingOn !== 'agent'
}

function waitsFor(state: SessionState): string {
  if (state === SessionState.RUNNING) return 'for the turn to end'
  return state === SessionState.READY || state === SessionState.IDLE ? 'to be delivered' : 'for the session to be ready'
}

function Message({ message, canEdit }: { message: QueuedMessage; canEdit: boolean }) {
  const client = useFoundry()
  const { messageId } = message
  const [editing, setEditing] = useState(false)
  const remove = useCommand('The message was not removed', (requestId: string) => client.task.removeQueuedMessage({ requestId, messageId }))
  const waits = message.state === QueuedMessageState.QUEUED
  const pencil = useFocusOnReturn(editing)
  if (editing && waits) {
    return (
      <li className={classes.editing}>
        <Edit message={message} onDone={() => setEditing(false)} />
      </li>
    )
  }
  const long = Number(message.textSize) > byteLength(message.textPreview)
  return (
    <li className={classes.message}>
      <InertLine text={oneLine(message.textPreview)} className={classes.preview} />
      {long && <span className="fd-muted">{sizeText(message.textSize)}</span>}
      <WithFiles files={message.attachments} />
      {!waits && <span className={classes.delivering}>Delivering…</span>}
      {waits && canEdit && (
        <span className={classes.messageActions}>
          <Tooltip label="Edit">
            <ActionIcon ref={pencil} size="sm" aria-label="Edit this message" onClick={() => setEditing(true)}>
              <IconPencil size={14} />
            </ActionIcon>
          </Tooltip>
          <Tooltip label="Remove">
            <ActionIcon size="sm" aria-label="Remove this message" loading={remove.busy} onClick={() => void remove.run()}>
              <IconTrash size={14} />
            </ActionIcon>
          </Tooltip>
        </span>
      )}
      {remove.error !== undefined && <ErrorState error={remove.error} title="The message was not removed" compact />}
    </li>
  )
}

/** Shows that a message has files, and their names. */
function WithFiles({ files }: { files: readonly Attachment[] }) {
  if (files.length === 0) return null
  const names = files.map((each) => visibleLine(each.name)).join(', ')
  return (
    <span className={classes.withFiles} title={names}>
      <IconPaperclip size={13} aria-hidden /> {counted(files.length, 'file')}
      <span className="fd-visually-hidden">: {names}</span>
    </span>
  )
}

/** Offers to copy an edit of a queued message that was delivered before it was saved, or whose page was left. */
function keepWords(words: string | undefined): void {
  if (words === undefined) return
  toastNotice('The change to a queued message was not saved', 'The message was delivered first, or you left the page.', {
    label: 'Copy your text',
    run: () => void navigator.clipboard?.writeText(words),
  })
}

/** Changes a queued message; its whole text is loaded first. */
function Edit({ message, onDone }: { message: QueuedMessage; onDone: () => void }) {
  const client = useFoundry()
  const { messageId } = message
  const [text, setText] = useState<string | undefined>(undefined)
  const changed = useRef<string | undefined>(undefined)
  useEffect(() => () => keepWords(changed.current), [])
  const whole = useRead(messageId, (signal) => client.task.getQueuedMessage({ messageId }, { signal }))
  // Undefined = the files stay as they are.
  const [kept, setKept] = useState<readonly Attachment[] | undefined>(undefined)
  const save = useCommand('The message was not changed', (requestId: string, words: string, attachmentIds: readonly string[] | undefined) =>
    client.task.updateQueuedMessage({
      requestId,
      messageId,
      text: words,
      attachments: attachmentIds === undefined ? undefined : { attachmentIds: [...attachmentIds] },
    }),
  )
  if (whole.error !== undefined) {
    return <ErrorState error={whole.error} title="The message could not be loaded" compact onRetry={whole.reload} />
  }
  if (whole.data === undefined) return <TextSkeleton lines={2} label="Loading the message" />
  const words = text ?? whole.data.text
  const files = kept ?? message.attachments
  // While it is being saved, the command itself reports the outcome.
  changed.current = words === whole.data.text || save.busy ? undefined : words
  const close = () => {
    changed.current = undefined
    onDone()
  }
  const submit = async () => {
    const ids = kept?.map((each) => each.attachmentId)
    if ((await save.run(words.trim() === '' ? '' : words, ids)) !== undefined) close()
  }
  return (
    <form
      className={classes.edit}
      onSubmit={(event) => {
        event.preventDefault()
        void submit()
      }}
    >
      <Textarea
        aria-label="Message text"
        value={words}
        onChange={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key !== 'Escape') return
          event.preventDefault()
          event.stopPropagation()
          close()
        }}
        autosize
        minRows={2}
        maxRows={10}
        dir="auto"
        data-autofocus
        autoFocus
      />
      {files.length > 0 && (
        <ul className={classes.keptFiles} aria-label="Files of the message">
          {files.map((file) => (
            <li key={file.attachmentId} className={classes.withFiles}>
              <IconPaperclip size={13} aria-hidden /> <InertLine text={file.name} />
              <ActionIcon
                size="xs"
                variant="subtle"
                aria-label={`Remove ${visibleLine(file.name)}`}
                onClick={() => setKept(files.filter((each) => each !== file))}
              >
                <IconX size={12} />
              </ActionIcon>
            </li>
          ))}
        </ul>
      )}
      {save.error !== undefined && <ErrorState error={save.error} title="The message was not changed" compact />}
      <div className={classes.editActions}>
        <Button variant="default" onClick={close}>
          Cancel
        </Button>
        <Button
          type="submit"
          loading={save.busy}
          disabled={(words.trim() === '' && files.length === 0) || byteLength(words) > MAX_MESSAGE_BYTES}
        >
          Save
        </Button>
      </div>
    </form>
  )
}

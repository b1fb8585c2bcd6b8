import { Button, Textarea } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import type { AgentCommand } from '@foundry/client/gen/foundry/common/v1/offer_pb'
import { IconArrowUp, IconPlayerStopFilled } from '@tabler/icons-react'
import { memo, useState, type KeyboardEvent } from 'react'
import { AttachButton, UploadList, useUploads } from '../../attachments'
import { ErrorState, Kbd } from '../../ui'
import { useClearedUnless, useCommand } from '../../state/command'
import type { DraftStatus } from '../../state/draft'
import { useShell } from '../../state/shell'
import { useDraft } from '../../state/useDraft'
import { byteLength, sizeText } from '../../ui/text/size'
import { CommandList } from './CommandList'
import classes from './composer.module.css'
import type { Echo } from './useEchoes'
import { useCommands } from './useCommands'

/** Largest message in bytes. */
export const MAX_MESSAGE_BYTES = 256 * 1024
const COUNTED_FROM = 200 * 1024

interface Props {
  organizationId: string
  sessionId: string
  /** Whether the session has no messages yet. */
  untouched: boolean
  /** The agent's own commands, which are completed after a `/`. */
  commands: readonly AgentCommand[]
  running: boolean
  stopping: boolean
  onStop: () => unknown
  /** Called with a message being sent, and then with the revision that contains it; undefined when it failed. */
  onSend: (echo: Echo) => void
  onSent: (requestId: string, rev: bigint | undefined) => void
}

/** The field for messages. Typed text is kept as a draft until it is sent. Not rendered again as the agent's text arrives. */
export const Composer = memo(function Composer(props: Props) {
  const { organizationId, sessionId, untouched, commands, running, stopping, onStop, onSend, onSent } = props
  const client = useFoundry()
  const { draft, text, status } = useDraft(organizationId, sessionId, { userId: useShell().user?.userId })
  const [focused, setFocused] = useState(false)
  const field = useUploads(organizationId)
  const send = useCommand('The message was not sent', async (requestId: string, words: string, attachmentIds: readonly string[]) => {
    onSend({ requestId, text: words === '' ? `${attachmentIds.length} attached` : words })
    try {
      const answer = await client.task.sendMessage({ requestId, sessionId, text: words, attachmentIds: [...attachmentIds] })
      onSent(requestId, answer.rev)
      return answer
    } catch (error) {
      onSent(requestId, undefined)
      throw error
    }
  })
  const completion = useCommands(commands, text, focused, (whole) => draft.edit(whole))
  const listed = completion.offered.length > 0
  const size = byteLength(text)
  const { ids } = field
  const something = text.trim() !== '' || field.files.length > 0
  const sendable = something && ids !== undefined && size <= MAX_MESSAGE_BYTES && !send.busy

  // Text that was deleted and is written again is a new message.
  useClearedUnless(text !== '' || field.files.length > 0, send)

  const submit = async () => {
    if (!sendable) return
    // Blank space is not a message; next to files it is left out.
    const words = text.trim() === '' ? '' : text
    if ((await send.run(words, ids)) === undefined) return
    draft.sent(text)
    field.uploads.taken(ids)
  }
  const keys = (event: KeyboardEvent) => {
    if (completion.takes(event)) return
    if (event.key === 'Enter' && !event.shiftKey && !event.nativeEvent.isComposing) {
      event.preventDefault()
      void submit()
    }
  }
  return (
    <form
      className={classes.composer}
      aria-label="New message"
      onSubmit={(event) => {
        event.preventDefault()
        void submit()
      }}
    >
      {send.error !== undefined && <ErrorState error={send.error} title="The message was not sent" compact onRetry={() => void submit()} />}
      <CommandList completion={completion} />
      <div className={classes.box} data-focused={focused} {...field.target}>
        <UploadList field={field} />
        <Textarea
          aria-label="Message"
          aria-autocomplete={commands.length > 0 ? 'list' : undefined}
          aria-controls={listed ? completion.listId : undefined}
          aria-activedescendant={listed ? `${completion.listId}-${completion.active}` : undefined}
          placeholder={placeholder(untouched, running)}
          value={text}
          onChange={(event) => draft.edit(event.currentTarget.value)}
          onKeyDown={keys}
          onFocus={() => setFocused(true)}
          onBlur={() => {
            setFocused(false)
            void draft.flush()
          }}
          autosize
          minRows={1}
          maxRows={12}
          variant="unstyled"
          dir="auto"
          error={size > MAX_MESSAGE_BYTES}
        />
        <div className={classes.bar}>
          <AttachButton field={field} />
          <span className={classes.hint}>
            <span className={classes.keys}>
              <Kbd keys="Enter" /> send, <Kbd keys="Shift+Enter" /> new line
            </span>
            <DraftWord status={status} empty={text === ''} />
          </span>
          {size > COUNTED_FROM && (
            <span role="status" className={size > MAX_MESSAGE_BYTES ? classes.over : classes.count}>
              {sizeText(size)} of 256 KiB
            </span>
          )}
          {running && (
            <Button
              variant="default"
              leftSection={<IconPlayerStopFilled size={13} />}
              loading={stopping}
              onClick={() => void onStop()}
              title="Stop the turn (Esc)"
            >
              Stop
            </Button>
          )}
          <Button type="submit" disabled={!sendable} loading={send.busy} leftSection={<IconArrowUp size={14} stroke={2.4} />}>
            {running ? 'Queue' : 'Send'}
          </Button>
        </div>
      </div>
    </form>
  )
})

function placeholder(untouched: boolean, running: boolean): string {
  if (running) return 'Write a message; it is queued until this turn ends'
  if (untouched) return 'Write a message; it is sent when the session is ready'
  return 'Write a message'
}

const words: Readonly<Record<DraftStatus, string>> = {
  kept: 'Draft saved',
  saving: 'Saving draft…',
  unsaved: 'Draft not saved yet',
  'too-long': 'Over 12 KiB: in this browser only',
}

function DraftWord({ status, empty }: { status: DraftStatus; empty: boolean }) {
  if (empty) return null
  return (
    <span className={classes.draft} data-longest={words.unsaved}>
      <span>{words[status]}</span>
    </span>
  )
}

import { Button, Textarea } from '@mantine/core'
import { useState, type KeyboardEvent } from 'react'
import { ErrorState, Kbd } from '../../../ui'
import { useCommand } from '../../../state/command'
import { byteLength } from '../../../ui/text/size'
import classes from './review.module.css'

/** Longest comment in bytes. */
const MAX_COMMENT_BYTES = 8 * 1024

interface Props {
  /** What it is on, as in `line 3`. */
  on: string
  start: string
  /** The text that is kept, or none; without it, that at the beginning. */
  before?: string
  /** Called with every change of the text. */
  onText?: (text: string) => void
  /** Keeps the comment. */
  onKeep: (text: string) => Promise<void>
  onClose: () => void
}

/** The field for a comment. */
export function CommentEditor({ on, start, before = start, onText, onKeep, onClose }: Props) {
  const [text, setText] = useState(start)
  const keep = useCommand('The comment was not kept', async (_: string, words: string) => {
    await onKeep(words)
    return true
  })
  const tooLong = byteLength(text) > MAX_COMMENT_BYTES
  const keepable = text.trim() !== '' && !tooLong
  const submit = async () => {
    if (keepable && (await keep.run(text)) !== undefined) onClose()
  }
  const keys = (event: KeyboardEvent) => {
    if (event.nativeEvent.isComposing) return
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
      event.preventDefault()
      void submit()
    } else if (event.key === 'Escape') {
      event.preventDefault()
      // A text is not thrown away by one key.
      if (text === before || text.trim() === '') onClose()
    }
    // Keys of the diff around it are letters here.
    event.stopPropagation()
  }
  return (
    <form
      className={classes.editor}
      aria-label={`Comment on ${on}`}
      onSubmit={(event) => {
        event.preventDefault()
        void submit()
      }}
    >
      {keep.error !== undefined && <ErrorState error={keep.error} title="The comment was not kept" compact />}
      <Textarea
        aria-label={`Comment on ${on}`}
        data-autofocus
        autoFocus
        placeholder={`Comment on ${on}`}
        value={text}
        onChange={(event) => {
          setText(event.currentTarget.value)
          onText?.(event.currentTarget.value)
        }}
        onKeyDown={keys}
        autosize
        minRows={2}
        maxRows={12}
        dir="auto"
        error={tooLong ? 'A comment is at most 8 KiB' : undefined}
      />
      <div className={classes.buttons}>
        <span className={classes.hint}>
          <Kbd keys="mod+Enter" /> keep
        </span>
        <Button variant="default" size="compact-sm" onClick={onClose}>
          Cancel
        </Button>
        <Button type="submit" size="compact-sm" disabled={!keepable} loading={keep.busy}>
          Keep comment
        </Button>
      </div>
    </form>
  )
}

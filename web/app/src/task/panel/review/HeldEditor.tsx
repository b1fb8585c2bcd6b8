import { Code, FoundryError } from '@foundry/client'
import { CommentEditor } from './CommentEditor'
import type { OpenEditor } from './openEditor'
import { rangeWords } from './places'
import classes from './review.module.css'
import { useReviewHere } from './useReview'

interface Props {
  editor: OpenEditor
  /** Where it is now; undefined = its lines are not shown. */
  now?: Pick<OpenEditor, 'start' | 'end' | 'content' | 'lines'>
  /** What is to be said of its place. */
  note?: string
  onClosed?: () => void
}

/** The field of the comment that is being written, wherever it is drawn: what is typed is kept in the review. */
export function HeldEditor({ editor, now, note, onClosed }: Props) {
  const review = useReviewHere()
  const keep = (text: string) => {
    if (now === undefined && !editor.existing) throw linesGone()
    return review.put({ ...editor, ...now, text })
  }
  const close = () => {
    review.setEditor(undefined)
    onClosed?.()
  }
  const { start, end } = now ?? editor
  return (
    <div data-review-editor>
      {note !== undefined && <p className={classes.held}>{note}</p>}
      <CommentEditor
        key={editor.commentId}
        on={rangeWords(editor.side, start, end)}
        start={review.typed()}
        before={editor.before}
        onText={review.note}
        onKeep={async (text) => keep(text)}
        onClose={close}
      />
    </div>
  )
}

function linesGone(): FoundryError {
  return new FoundryError({
    code: Code.FailedPrecondition,
    reason: 'REVIEW_FILE_CHANGED',
    message: 'the lines that it is on have changed; choose other lines for it, the text stays',
  })
}

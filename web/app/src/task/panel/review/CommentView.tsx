import { ActionIcon, Tooltip } from '@mantine/core'
import { IconMessage, IconPencil, IconTrash } from '@tabler/icons-react'
import { ReviewPlace, ReviewSide } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { ErrorState } from '../../../ui'
import { useCommand } from '../../../state/command'
import { InertText } from '../../../ui/text/Inert'
import { HeldEditor } from './HeldEditor'
import { rangeWords, type Placed } from './places'
import classes from './review.module.css'
import { beginEdit, useReviewHere } from './useReview'

/** A comment that is not sent. `apart`: not below its lines, which are then quoted. */
export function CommentView({ placed, apart = false }: { placed: Placed; apart?: boolean }) {
  const review = useReviewHere()
  const { comment, place } = placed
  const { commentId } = comment
  const remove = useCommand('The comment was not deleted', () => review.remove(commentId))
  const on = rangeWords(comment.side, comment.startLine, comment.endLine)
  if (review.editor?.commentId === commentId && review.editor.existing) return <HeldEditor editor={review.editor} />
  return (
    <article className={classes.comment} aria-label={`Your comment on ${on}`}>
      <header className={classes.head}>
        <IconMessage size={14} aria-hidden />
        <span>On {on}</span>
        <span className="fd-muted">{aboutPlace(placed)}</span>
        {review.canComment && (
          <span className={classes.actions}>
            <Tooltip label="Edit">
              <ActionIcon size="sm" aria-label={`Edit the comment on ${on}`} onClick={() => beginEdit(review, comment)}>
                <IconPencil size={14} />
              </ActionIcon>
            </Tooltip>
            <Tooltip label="Delete">
              <ActionIcon size="sm" aria-label={`Delete the comment on ${on}`} loading={remove.busy} onClick={() => void remove.run()}>
                <IconTrash size={14} />
              </ActionIcon>
            </Tooltip>
          </span>
        )}
      </header>
      {remove.error !== undefined && <ErrorState error={remove.error} title="The comment was not deleted" compact />}
      {apart && comment.side !== ReviewSide.FILE && (
        <blockquote className={classes.quote} data-outdated={place === ReviewPlace.OUTDATED}>
          <InertText text={comment.quote} mono />
        </blockquote>
      )}
      <InertText text={comment.text} />
    </article>
  )
}

/** What is to be said of the place of a comment. */
export function aboutPlace({ comment, place, start, end }: Placed): string {
  switch (place) {
    case ReviewPlace.OUTDATED:
      return `outdated: made on version ${comment.version}, and its lines are not among the changes any more`
    case ReviewPlace.MOVED:
      return `now ${rangeWords(comment.side, start, end)}`
    case ReviewPlace.UNSPECIFIED:
      return `made on version ${comment.version}; looking for its lines`
    case ReviewPlace.UNKNOWN:
      return `made on version ${comment.version}; where its lines are now is not known`
    default:
      return comment.side === ReviewSide.OLD && comment.sinceVersion > 0n ? `compared with version ${comment.sinceVersion}` : ''
  }
}

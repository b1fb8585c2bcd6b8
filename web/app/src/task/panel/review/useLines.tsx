import { useEffect, useMemo, useRef, useState, type KeyboardEvent, type MouseEvent, type ReactNode, type RefObject } from 'react'
import { getChangeKey, type ChangeData, type EventMap, type HunkData } from 'react-diff-view'
import { ReviewSide, type FileChange } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { announce } from '../../../ui'
import { CommentEditor } from './CommentEditor'
import { CommentView } from './CommentView'
import { reached, useGoal } from './goTo'
import { keyOf, keysOf, linesOf, numberOn, rangeOf, rangeWords, type Compared, type Placed, type Range } from './places'
import classes from './review.module.css'
import { beginComment, keepNew, useReviewHere } from './useReview'

/** What a diff needs for comments on its lines. */
export interface Lines {
  readonly widgets: Record<string, ReactNode>
  readonly selected: string[]
  readonly gutterEvents: EventMap
  readonly onKeyDown: (event: KeyboardEvent) => void
  /** Comments whose lines are not drawn. */
  readonly apart: readonly Placed[]
  /** The new comment, if its lines are not drawn. */
  readonly editorApart: ReactNode
}

interface Selection {
  readonly from: number
  readonly to: number
}

/** Comments on the lines of a file, and choosing lines by keys and by pressing their numbers. */
export function useLines(region: RefObject<HTMLElement | null>, file: FileChange, hunks: readonly HunkData[], compared: Compared): Lines {
  const review = useReviewHere()
  const changes = useMemo(() => linesOf(hunks), [hunks])
  const [selection, setSelection] = useState<Selection>()
  const editor = review.editor?.path === file.path && review.editor.side !== ReviewSide.FILE ? review.editor : undefined
  const begin = (range: Range | undefined) => {
    if (range === undefined || !review.canComment) return
    const { path, oldPath, content } = file
    const place = { path, oldPath, content, since: String(compared.since), whole: compared.whole }
    beginComment(review, { ...place, ...range, text: '' })
  }
  const close = () => {
    review.setEditor(undefined)
    region.current?.focus()
  }
  const select = (next: Selection) => {
    setSelection(next)
    const change = changes[next.to]
    if (change === undefined) return
    region.current?.querySelector(`[data-change-key="${getChangeKey(change)}"]`)?.scrollIntoView?.({ block: 'nearest' })
    announce(lineWords(change))
  }
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.target !== event.currentTarget || event.ctrlKey || event.metaKey || event.altKey) return
    const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0
    if (step !== 0 && changes.length > 0) {
      event.preventDefault()
      const to = selection === undefined ? 0 : Math.min(Math.max(selection.to + step, 0), changes.length - 1)
      select({ from: event.shiftKey ? (selection?.from ?? to) : to, to })
    } else if (event.key === 'c' && selection !== undefined) {
      event.preventDefault()
      begin(rangeOf(changes, selection.from, selection.to))
    } else if (event.key === 'Escape' && selection !== undefined) {
      event.preventDefault()
      setSelection(undefined)
    }
  }
  const gutterEvents: EventMap = {
    onClick: ({ change, side }, event: MouseEvent<HTMLElement>) => {
      const to = change === null ? -1 : changes.indexOf(change)
      if (to < 0 || !review.canComment) return
      const from = event.shiftKey && selection !== undefined ? selection.from : to
      setSelection({ from, to })
      begin(rangeOf(changes, from, to, side))
    },
  }
  useReached(file.path, changes, select)
  const here = useMemo(() => review.comments.filter((it) => it.comment.path === file.path), [review.comments, file.path])
  const keyed = here.map((placed) => [keyOf(changes, placed, compared), placed] as const)
  const range = editor === undefined || editor.since !== String(compared.since) ? undefined : (editor as Range)
  const editedKeys = range === undefined ? [] : keysOf(changes, range)
  const field =
    editor === undefined ? null : (
      <div data-review-editor>
        <CommentEditor
          key={`${editor.side} ${editor.start} ${editor.end}`}
          on={rangeWords(editor.side, editor.start, editor.end)}
          start={review.typed()}
          onText={review.note}
          onKeep={(text) => keepNew(review, editor, text, file)}
          onClose={close}
        />
      </div>
    )
  const at = editedKeys.at(-1)
  const widgets: Record<string, ReactNode> = {}
  for (const key of new Set([...keyed.map(([it]) => it), at])) {
    if (key === undefined) continue
    widgets[key] = (
      <div className={classes.widget}>
        {keyed.map(([it, placed]) => it === key && <CommentView key={placed.comment.commentId} placed={placed} />)}
        {key === at && field}
      </div>
    )
  }
  const marked = selection === undefined ? undefined : rangeOf(changes, selection.from, selection.to)
  const selected = editedKeys.length > 0 ? editedKeys : marked === undefined ? [] : keysOf(changes, marked)
  const apart = keyed.filter(([key]) => key === undefined).map(([, placed]) => placed)
  return { widgets, selected, gutterEvents, onKeyDown, apart, editorApart: at === undefined ? field : null }
}

/** Selects the line that is wanted, once it is drawn. */
function useReached(path: string, changes: readonly ChangeData[], select: (selection: Selection) => void): void {
  const goal = useGoal(path)
  const newest = useRef(select)
  newest.current = select
  useEffect(() => {
    if (goal === undefined || changes.length === 0) return
    const side = goal.old ? ReviewSide.OLD : ReviewSide.NEW
    const at = changes.findIndex((change) => numberOn(change, side) === goal.line)
    if (at >= 0) newest.current({ from: at, to: at })
    reached(goal.number)
  }, [goal, changes])
}

const kinds = { insert: 'added', delete: 'removed', normal: 'unchanged' } as const

function lineWords(change: ChangeData): string {
  const number = numberOn(change, ReviewSide.NEW) ?? numberOn(change, ReviewSide.OLD)
  return `Line ${number}, ${kinds[change.type]}: ${change.content.slice(0, 200)}`
}

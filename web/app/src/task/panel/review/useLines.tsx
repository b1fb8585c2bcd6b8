import { useEffect, useMemo, useRef, useState, type KeyboardEvent, type MouseEvent, type ReactNode, type RefObject } from 'react'
import { getChangeKey, type ChangeData, type EventMap, type HunkData } from 'react-diff-view'
import { ReviewPlace, ReviewSide, type FileChange } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { announce } from '../../../ui'
import { CommentView } from './CommentView'
import { HeldEditor } from './HeldEditor'
import { reached, useGoal } from './goTo'
import type { OpenEditor } from './openEditor'
import { keyOf, keysOf, linesOf, linesOn, numberOn, rangeNow, rangeOf, type Compared, type Placed, type Range } from './places'
import classes from './review.module.css'
import { beginComment, newComment, useReviewHere } from './useReview'

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
  const open = review.editor
  const editor = open?.path === file.path && open.side !== ReviewSide.FILE && !open.existing ? open : undefined
  const now = editor === undefined ? undefined : placeNow(editor, changes, file, compared)
  const begin = (range: Range | undefined) => {
    const on = range === undefined ? undefined : linesOn(changes, range)
    if (range === undefined || on === undefined || !review.canComment) return
    const { path, oldPath, content } = file
    const place = { path, oldPath, content, since: String(compared.since), whole: compared.whole, lines: on.map((it) => it.content) }
    // A comment whose lines are gone gets the lines that are chosen next.
    if (editor !== undefined && now === undefined) review.setEditor({ ...editor, ...place, ...range, text: review.typed() })
    else beginComment(review, { ...newComment(), ...place, ...range })
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
  const here = useMemo(
    () => review.comments.filter((it) => it.comment.path === file.path).map((it) => ofContent(it, file.content)),
    [review.comments, file.path, file.content],
  )
  const keyed = here.map((placed) => [keyOf(changes, placed, compared), placed] as const)
  const editedKeys = now === undefined ? [] : keysOf(changes, now)
  const field = editor !== undefined && (
    <HeldEditor
      editor={editor}
      now={now}
      note={now === undefined ? 'The lines of this comment are not shown here any more: choose other lines for it.' : undefined}
      onClosed={() => region.current?.focus()}
    />
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
  return { widgets, selected, gutterEvents, onKeyDown, apart, editorApart: at === undefined && field }
}

/** A comment on a file that is still what it was is where it was made. */
function ofContent(placed: Placed, content: string): Placed {
  const { comment } = placed
  if (content === '' || comment.content !== content || comment.side === ReviewSide.FILE) return placed
  return { comment, place: ReviewPlace.SAME, start: comment.startLine, end: comment.endLine }
}

/** Where the lines of a comment that is being written are in the diff that is shown. */
function placeNow(editor: OpenEditor, changes: readonly ChangeData[], file: FileChange, compared: Compared) {
  const { side, start, end, since, whole, lines } = editor
  const shown = side === ReviewSide.NEW || (since === String(compared.since) && whole === compared.whole)
  const range = shown ? rangeNow(changes, { side: side as Range['side'], start, end }, lines) : undefined
  if (range === undefined) return undefined
  return { ...range, content: file.content, since: String(compared.since), whole: compared.whole, lines }
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

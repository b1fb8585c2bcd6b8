import { create } from '@bufbuild/protobuf'
import { newRequestId, topics, type FoundryError } from '@foundry/client'
import { useFoundry, useTopic } from '@foundry/client/react'
import {
  ReviewPlace,
  ReviewSide,
  ViewedFileSchema,
  type FileChange,
  type ReviewComment,
  type Task,
} from '@foundry/client/gen/foundry/task/v1/task_pb'
import { createContext, useCallback, useContext, useMemo, useRef, useState } from 'react'
import { isEnded } from '../../header/Actions'
import type { Viewer } from '../../model/useViewer'
import { toastNotice } from '../../../ui'
import { useRead } from '../../../state/read'
import { visibleLine } from '../../../ui/text/visible'
import { goTo } from './goTo'
import { useOpenEditor, type OpenEditor } from './openEditor'
import type { Placed } from './places'

/** The viewer's review of a task. */
export interface Review {
  readonly taskId: string
  /** Whether comments can be written. */
  readonly canComment: boolean
  /** The comments that are not sent, by file and line. */
  readonly comments: readonly Placed[]
  readonly isViewed: (file: FileChange) => boolean
  readonly mark: (file: FileChange, viewed: boolean) => Promise<void>
  /** Keeps a new comment, or the new text of an existing one. */
  readonly put: (editor: OpenEditor) => Promise<void>
  readonly remove: (commentId: string) => Promise<void>
  /** Why the places of comments could not be looked up. */
  readonly placesError: FoundryError | undefined
  readonly lookAgain: () => void
  /** The comment that is being written, new or not. */
  readonly editor: OpenEditor | undefined
  readonly setEditor: (editor: OpenEditor | undefined) => void
  readonly note: (text: string) => void
  readonly typed: () => string
}

const nothing: Review = {
  taskId: '',
  canComment: false,
  comments: [],
  isViewed: () => false,
  mark: async () => undefined,
  put: async () => undefined,
  remove: async () => undefined,
  placesError: undefined,
  lookAgain: () => undefined,
  editor: undefined,
  setEditor: () => undefined,
  note: () => undefined,
  typed: () => '',
}

/** The review, for the parts of the panel. */
export const ReviewContext = createContext<Review>(nothing)

/** The review of the panel in which this is rendered. */
export function useReviewHere(): Review {
  return useContext(ReviewContext)
}

/** What identifies and begins a new comment. */
export function newComment(): Pick<OpenEditor, 'commentId' | 'existing' | 'before' | 'text'> {
  return { commentId: newCommentId(), existing: false, before: '', text: '' }
}

/** Opens a comment, unless one with a text that is not kept is open: that is shown and gets the focus. */
export function beginComment(review: Review, next: OpenEditor): void {
  const open = review.editor
  if (open !== undefined && review.typed().trim() !== '' && review.typed() !== open.before) {
    const field = document.querySelector<HTMLElement>('[data-review-editor] textarea')
    if (field === null) goTo(open.path, open.side === ReviewSide.OLD, open.start)
    field?.focus()
    field?.scrollIntoView?.({ block: 'nearest' })
    toastNotice('Keep or cancel the comment that you are writing first', `It is on ${visibleLine(open.path)}.`)
    return
  }
  review.setEditor(next)
}

/** Opens a comment that is kept, to change its text. */
export function beginEdit(review: Review, comment: ReviewComment): void {
  const { commentId, path, side, startLine: start, endLine: end, content, whole, text } = comment
  const since = String(comment.sinceVersion)
  const place = { path, oldPath: '', side, start, end, content, since, whole, lines: [] }
  beginComment(review, { ...place, commentId, existing: true, before: text, text })
}

/** What was changed from here and the watch has not shown yet; undefined = removed. */
type Own<T> = ReadonlyMap<string, { readonly value: T | undefined; readonly rev: bigint }>

/** The review of a task, as the server and this tab know it. */
export function useReview(task: Task, { userId, canEdit }: Viewer): Review {
  const client = useFoundry()
  const { taskId, organizationId } = task
  const version = task.changes?.version ?? 0n
  const state = useTopic(useMemo(() => topics.review(organizationId, taskId), [organizationId, taskId]))
  const [own, setOwn] = useState<{ comments: Own<ReviewComment>; viewed: Own<string> }>({ comments: new Map(), viewed: new Map() })
  const { editor, setEditor, note, typed } = useOpenEditor(`${userId}/${taskId}`)
  const rev = state?.rev ?? 0n
  const known = useMemo(() => {
    const comments = new Map<string, ReviewComment>()
    const viewed = new Map<string, string>()
    for (const { item } of state?.entities.values() ?? []) {
      if (item.case === 'reviewComment') comments.set(item.value.commentId, item.value)
      else if (item.case === 'viewedFile') viewed.set(item.value.path, item.value.content)
    }
    overlay(comments, own.comments, rev)
    overlay(viewed, own.viewed, rev)
    return { comments: [...comments.values()].sort(byPlace), viewed }
  }, [state, own, rev])
  const moving = known.comments.filter((it) => it.side !== ReviewSide.FILE && it.version !== version)
  const ids = moving.map((it) => it.commentId).join()
  const places = useRead(ids === '' ? undefined : `${taskId}@${version}/${ids}`, (signal) =>
    client.task.listReviewComments({ taskId }, { signal }),
  )
  const found = places.data
  const last = useRef<ReadonlyMap<string, Placed>>(new Map())
  const comments = useMemo(() => {
    const placed = new Map(found?.comments.map((it) => [it.comment?.commentId ?? '', it]))
    const all = known.comments.map((comment): Placed => {
      if (comment.side === ReviewSide.FILE || comment.version === version)
        return { comment, place: ReviewPlace.SAME, start: comment.startLine, end: comment.endLine }
      const it = placed.get(comment.commentId)
      if (it !== undefined) return { comment, place: it.place, start: it.startLine, end: it.endLine }
      // Until its new place is known it stays where it was; it is drawn there only below the lines that it quotes.
      const before = last.current.get(comment.commentId)
      return before === undefined ? { comment, place: ReviewPlace.UNSPECIFIED, start: 0, end: 0 } : { ...before, comment }
    })
    last.current = new Map(all.map((it) => [it.comment.commentId, it]))
    return all
  }, [known, found, version])
  const mark = useCallback(
    async (file: FileChange, viewed: boolean) => {
      const { path, content } = file
      const answer = await client.task.markFileViewed({ taskId, path, content, viewed })
      const seen = create(ViewedFileSchema, { path, content })
      setOwn((before) => ({
        ...before,
        viewed: new Map(before.viewed).set(path, { value: viewed ? seen.content : undefined, rev: answer.rev }),
      }))
    },
    [client, taskId],
  )
  const changed = useCallback((id: string, value: ReviewComment | undefined, at: bigint) => {
    setOwn((before) => ({ ...before, comments: new Map(before.comments).set(id, { value, rev: at }) }))
  }, [])
  const put = useCallback(
    async ({ commentId, existing, path, oldPath, side, start, end, content, since, whole, text }: OpenEditor) => {
      const sinceVersion = BigInt(since)
      const place = { path, oldPath, side, startLine: start, endLine: end, content, sinceVersion, whole }
      const answer = await client.task.putReviewComment({ taskId, commentId, existing, ...place, text })
      if (answer.comment !== undefined) changed(commentId, answer.comment, answer.rev)
    },
    [client, taskId, changed],
  )
  const remove = useCallback(
    async (commentId: string) => {
      const answer = await client.task.deleteReviewComment({ taskId, commentId })
      changed(commentId, undefined, answer.rev)
    },
    [client, taskId, changed],
  )
  const canComment = canEdit && !isEnded(task)
  return useMemo(
    () => ({
      taskId,
      canComment,
      comments,
      isViewed: (file: FileChange) => known.viewed.get(file.path) === file.content && file.content !== '',
      mark,
      put,
      remove,
      placesError: places.error,
      lookAgain: places.reload,
      editor,
      setEditor,
      note,
      typed,
    }),
    [taskId, canComment, comments, known, mark, put, remove, places.error, places.reload, editor, setEditor, note, typed],
  )
}

function overlay<T>(shown: Map<string, T>, own: Own<T>, rev: bigint): void {
  for (const [key, { value, rev: at }] of own) {
    if (at <= rev) continue
    if (value === undefined) shown.delete(key)
    else shown.set(key, value)
  }
}

function byPlace(a: ReviewComment, b: ReviewComment): number {
  if (a.path !== b.path) return a.path < b.path ? -1 : 1
  return a.startLine - b.startLine || (a.commentId < b.commentId ? -1 : 1)
}

/** An id for a new comment. */
export function newCommentId(): string {
  return `rvc_${newRequestId().replaceAll('-', '')}`
}

import { create } from '@bufbuild/protobuf'
import { FoundryError, newRequestId, topics } from '@foundry/client'
import { useFoundry, useTopic } from '@foundry/client/react'
import {
  ReviewPlace,
  ReviewSide,
  ViewedFileSchema,
  type FileChange,
  type ReviewComment,
  type Task,
} from '@foundry/client/gen/foundry/task/v1/task_pb'
import { createContext, useCallback, useContext, useMemo, useState } from 'react'
import { isEnded } from '../../header/Actions'
import type { Viewer } from '../../model/useViewer'
import { announce } from '../../../ui'
import { useRead } from '../../../state/read'
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
  readonly put: (editor: OpenEditor, commentId?: string) => Promise<void>
  readonly remove: (commentId: string) => Promise<void>
  /** The new comment that is being written. */
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

/** Opens a new comment, unless one with text is open: that gets the focus. */
export function beginComment(review: Review, editor: OpenEditor): void {
  if (review.editor !== undefined && review.typed().trim() !== '') {
    document.querySelector<HTMLElement>('[data-review-editor] textarea')?.focus()
    announce('Keep or cancel the comment that you are writing first')
    return
  }
  review.setEditor(editor)
}

/** Keeps the new comment; where the file has changed, it is of the file as it is shown now the next time. */
export async function keepNew(review: Review, editor: OpenEditor, text: string, file: FileChange): Promise<void> {
  try {
    await review.put({ ...editor, text })
  } catch (error) {
    if (FoundryError.from(error).reason === 'REVIEW_FILE_CHANGED') review.setEditor({ ...editor, text, content: file.content })
    throw error
  }
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
  const places = useRead(ids === '' ? undefined : `${taskId}/${ids}@${version}`, (signal) =>
    client.task.listReviewComments({ taskId }, { signal }),
  )
  const found = places.loading ? undefined : places.data
  const comments = useMemo(() => {
    const placed = new Map(found?.comments.map((it) => [it.comment?.commentId ?? '', it]))
    return known.comments.map((comment): Placed => {
      if (comment.side === ReviewSide.FILE || comment.version === version)
        return { comment, place: ReviewPlace.SAME, start: comment.startLine, end: comment.endLine }
      const it = placed.get(comment.commentId)
      return { comment, place: it?.place ?? ReviewPlace.UNSPECIFIED, start: it?.startLine ?? 0, end: it?.endLine ?? 0 }
    })
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
    async ({ path, oldPath, side, start, end, content, since, whole, text }: OpenEditor, commentId = newCommentId()) => {
      const sinceVersion = BigInt(since)
      const place = { path, oldPath, side, startLine: start, endLine: end, content, sinceVersion, whole }
      const answer = await client.task.putReviewComment({ taskId, commentId, ...place, text })
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
      editor,
      setEditor,
      note,
      typed,
    }),
    [taskId, canComment, comments, known, mark, put, remove, editor, setEditor, note, typed],
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

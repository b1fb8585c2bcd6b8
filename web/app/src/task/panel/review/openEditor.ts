import { useCallback, useRef, useState } from 'react'
import type { ReviewSide } from '@foundry/client/gen/foundry/task/v1/task_pb'

/** A comment that is being written. */
export interface OpenEditor {
  /** Chosen when it is opened, so that a repeat of keeping it makes no second comment. */
  readonly commentId: string
  /** Whether it is a comment that is kept already, and its text is changed. */
  readonly existing: boolean
  readonly path: string
  readonly oldPath: string
  readonly side: ReviewSide
  readonly start: number
  readonly end: number
  /** What the file was when the comment was begun. */
  readonly content: string
  readonly since: string
  readonly whole: boolean
  /** The lines that it is on, as they were shown then. */
  readonly lines: readonly string[]
  /** The text with which it was opened. */
  readonly before: string
  readonly text: string
}

const key = (owner: string) => `foundry-review/${owner}`

/** The comment that is written in this tab. */
export interface EditorState {
  readonly editor: OpenEditor | undefined
  /** Opens another one, or closes it. */
  readonly setEditor: (editor: OpenEditor | undefined) => void
  /** Notes what has been typed; nothing is rendered again. */
  readonly note: (text: string) => void
  /** What has been typed. */
  readonly typed: () => string
}

/** The comment that is being written in this tab, also after the panel was closed or the page was loaded again. */
export function useOpenEditor(owner: string): EditorState {
  const [state, setState] = useState(() => ({ owner, editor: kept(owner) }))
  const editor = state.owner === owner ? state.editor : kept(owner)
  const newest = useRef(editor)
  const setEditor = useCallback(
    (next: OpenEditor | undefined) => {
      newest.current = next
      setState({ owner, editor: next })
      keep(owner, next)
    },
    [owner],
  )
  const note = useCallback(
    (text: string) => {
      if (newest.current === undefined) return
      newest.current = { ...newest.current, text }
      keep(owner, newest.current)
    },
    [owner],
  )
  const typed = useCallback(() => newest.current?.text ?? '', [])
  return { editor, setEditor, note, typed }
}

function keep(owner: string, editor: OpenEditor | undefined): void {
  try {
    if (editor === undefined) sessionStorage.removeItem(key(owner))
    else sessionStorage.setItem(key(owner), JSON.stringify(editor))
  } catch {
    // Without storage, the text lasts as long as the panel.
  }
}

function kept(owner: string): OpenEditor | undefined {
  try {
    const text = sessionStorage.getItem(key(owner))
    const found: unknown = text === null ? undefined : JSON.parse(text)
    return typeof found === 'object' && found !== null && 'commentId' in found && 'lines' in found ? (found as OpenEditor) : undefined
  } catch {
    return undefined
  }
}

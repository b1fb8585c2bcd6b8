import { announce, clearAnnouncement } from './Announcer'
import { errorText, sentence } from './errors'

/** A short message in the corner of the page. */
export interface Toast {
  readonly id: number
  readonly tone: 'error' | 'ok'
  readonly title: string
  readonly message: string
  /** Reason code of an error. */
  readonly reason?: string
  readonly action?: { readonly label: string; readonly run: () => void }
}

/** How long a message without an action stays, in milliseconds. Errors stay until they are closed. */
const SHOWN = 5000
const MAX_TOASTS = 4

/** Whether the pointer is over the messages, and which of them are overdue. */
let held = false
const due = new Set<number>()

let toasts: readonly Toast[] = []
let lastId = 0
const listeners = new Set<() => void>()

/** The messages shown now, oldest first. */
export const toastStore = {
  get: (): readonly Toast[] => toasts,
  subscribe: (listener: () => void): (() => void) => {
    listeners.add(listener)
    return () => listeners.delete(listener)
  },
}

function set(next: readonly Toast[]): void {
  toasts = next
  for (const listener of listeners) listener()
}

function show(toast: Omit<Toast, 'id'>): number {
  lastId += 1
  set([...toasts, { ...toast, id: lastId }].slice(-MAX_TOASTS))
  return lastId
}

/** Closes a message. */
export function dismissToast(id: number): void {
  set(toasts.filter((toast) => toast.id !== id))
  // An element that is removed sends no event when the pointer leaves.
  if (toasts.length === 0) holdToasts(false)
}

/** Keeps messages while the pointer is over them: if one went, those above would move under the pointer. */
export function holdToasts(hold: boolean): void {
  held = hold
  if (hold) return
  set(toasts.filter((toast) => !due.has(toast.id)))
  due.clear()
}

function expire(id: number): void {
  if (held) due.add(id)
  else dismissToast(id)
}

/** Closes all messages, so that the next user does not see those of the last one. */
export function forgetToasts(): void {
  set([])
  holdToasts(false)
  clearAnnouncement()
}

/** Shows that a command failed; `title` names it, for example "The task was not archived". */
export function toastError(title: string, error: unknown, action?: Toast['action']): void {
  const text = errorText(error)
  const message = text.nextAction === '' ? text.message : `${text.message} ${sentence(text.nextAction)}`
  show({ tone: 'error', title, message, reason: text.reason, action })
  announce(`${title}. ${message}`, true)
}

/** Shows a message that is not about a failed command and stays until it is closed. */
export function toastNotice(title: string, message: string, action?: Toast['action']): void {
  show({ tone: 'error', title, message, action })
  announce(`${title}. ${message}`)
}

/** Shows that something is done; disappears after a while. */
export function toastDone(title: string, message = ''): void {
  const id = show({ tone: 'ok', title, message })
  announce(title)
  setTimeout(() => expire(id), SHOWN)
}

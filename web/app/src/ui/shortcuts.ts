import { useEffect, useRef, useSyncExternalStore } from 'react'

/** A shortcut of the page. */
export interface Shortcut {
  /** Keys one after the other, for example `/`, `c`, `g r`, `mod+Enter`. */
  readonly keys: string
  /** What it does, as the list of shortcuts shows it. */
  readonly label: string
  readonly run: () => void
}

/** Shortcuts that belong together, as the list shows them. */
export interface ShortcutGroup {
  readonly title: string
  readonly shortcuts: readonly Shortcut[]
}

/** How long the first key of a sequence waits for the next, in milliseconds. */
export const SEQUENCE_PAUSE = 1200

/** What of a key event matters here. */
export interface Stroke {
  readonly key: string
  readonly mod: boolean
  readonly alt: boolean
  readonly at: number
  /** Whether the key goes into a field that takes text. */
  readonly typing: boolean
}

/** Follows keys and says which shortcut they complete. */
export class Sequences {
  private before: { readonly keys: string; readonly at: number } | undefined

  /** The shortcut that this key completes; `pending` when it only begins one. */
  take(stroke: Stroke, known: readonly Shortcut[]): Shortcut | 'pending' | undefined {
    if (stroke.alt || modifiers.has(stroke.key)) return undefined
    const name = stroke.mod ? `mod+${stroke.key}` : stroke.key
    if (stroke.typing && !stroke.mod) return undefined
    const fresh = this.before !== undefined && stroke.at - this.before.at <= SEQUENCE_PAUSE ? this.before.keys : undefined
    this.before = undefined
    for (const keys of fresh === undefined ? [name] : [`${fresh} ${name}`, name]) {
      const hit = known.find((it) => it.keys === keys)
      if (hit !== undefined) return hit
      if (known.some((it) => it.keys.startsWith(`${keys} `))) {
        this.before = { keys, at: stroke.at }
        return 'pending'
      }
    }
    return undefined
  }
}

const modifiers = new Set(['Shift', 'Control', 'Meta', 'Alt'])
let groups: readonly ShortcutGroup[] = []
const listeners = new Set<() => void>()
const sequences = new Sequences()

function set(next: readonly ShortcutGroup[]): void {
  groups = next
  for (const listener of listeners) listener()
}

function onKey(event: KeyboardEvent): void {
  const target = event.target instanceof Element ? event.target : undefined
  // A dialog keeps the keys for itself, also while nothing in it has the focus.
  if (document.querySelector('[role="dialog"][aria-modal="true"]') !== null) return
  if (event.defaultPrevented || target?.closest('[role="dialog"],[role="menu"],[role="listbox"]') != null) return
  const typing = target?.closest('input,textarea,select,[contenteditable="true"]') != null
  const stroke = { key: event.key, mod: event.ctrlKey || event.metaKey, alt: event.altKey, at: event.timeStamp, typing }
  // The newest group wins, so that the page on top can take a key for itself.
  const hit = sequences.take(
    stroke,
    groups.toReversed().flatMap((group) => group.shortcuts),
  )
  if (hit === undefined) return
  event.preventDefault()
  if (hit !== 'pending') hit.run()
}

/** Offers shortcuts while the component is mounted; they appear in the list that `?` opens. */
export function useShortcuts(title: string, shortcuts: readonly Shortcut[]): void {
  const latest = useRef(shortcuts)
  latest.current = shortcuts
  const shape = shortcuts.map((it) => `${it.keys}\t${it.label}`).join('\n')
  useEffect(() => {
    const group: ShortcutGroup = {
      title,
      shortcuts: latest.current.map((it, index) => ({ ...it, run: () => latest.current[index]?.run() })),
    }
    if (groups.length === 0) document.addEventListener('keydown', onKey)
    set([...groups, group])
    return () => {
      set(groups.filter((it) => it !== group))
      if (groups.length === 0) document.removeEventListener('keydown', onKey)
    }
  }, [title, shape])
}

/** All shortcuts that work now. */
export function useShortcutGroups(): readonly ShortcutGroup[] {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    () => groups,
  )
}

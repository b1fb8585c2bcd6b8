import { useEffect, useRef, useSyncExternalStore } from 'react'

/** A keyboard shortcut of the page. */
export interface Shortcut {
  /** Keys in sequence, for example `/`, `c`, `g r`, `mod+Enter`. */
  readonly keys: string
  /** Its description in the list of shortcuts. */
  readonly label: string
  readonly run: () => void
}

/** Shortcuts that are listed together. */
export interface ShortcutGroup {
  readonly title: string
  readonly shortcuts: readonly Shortcut[]
}

/** Longest pause between the keys of a sequence, in milliseconds. */
export const SEQUENCE_PAUSE = 1200

/** The relevant part of a key event. */
export interface Stroke {
  readonly key: string
  readonly mod: boolean
  readonly alt: boolean
  readonly at: number
  /** Whether the key goes into a field that takes text. */
  readonly typing: boolean
}

/** Follows keys and finds the shortcut that they complete. */
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
  // A dialog gets all keys, even while nothing in it has the focus.
  if (document.querySelector('[role="dialog"][aria-modal="true"]') !== null) return
  if (event.defaultPrevented || target?.closest('[role="dialog"],[role="menu"],[role="listbox"]') != null) return
  const typing = target?.closest('input,textarea,select,[contenteditable="true"]') != null
  const stroke = { key: event.key, mod: event.ctrlKey || event.metaKey, alt: event.altKey, at: event.timeStamp, typing }
  // The newest group has precedence, so that the topmost part of the page can override a key.
  const hit = sequences.take(
    stroke,
    groups.toReversed().flatMap((group) => group.shortcuts),
  )
  if (hit === undefined) return
  event.preventDefault()
  if (hit !== 'pending') hit.run()
}

/** Adds shortcuts while the component is mounted; the list that `?` opens shows them. */
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

/** All shortcuts that are active now. */
export function useShortcutGroups(): readonly ShortcutGroup[] {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    () => groups,
  )
}

import { useSyncExternalStore } from 'react'

/** A sentence with a number, so that the same sentence again is a change of the page. */
interface Announcement {
  readonly text: string
  readonly number: number
}

let count = 0
let polite: Announcement = { text: '', number: 0 }
let assertive = polite
const listeners = new Set<() => void>()

/** Announces a sentence for screen readers; `urgent` interrupts what is being read. */
export function announce(text: string, urgent = false): void {
  const announcement = { text, number: ++count }
  if (urgent) assertive = announcement
  else polite = announcement
  for (const listener of listeners) listener()
}

/** Clears the announcement: it was for another person. */
export function clearAnnouncement(): void {
  announce('')
  announce('', true)
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

/** The live regions for `announce`; rendered once. */
export function Announcer() {
  const calm = useSyncExternalStore(subscribe, () => polite)
  const urgent = useSyncExternalStore(subscribe, () => assertive)
  return (
    <div className="fd-visually-hidden">
      <div role="status" aria-live="polite">
        <span key={calm.number}>{calm.text}</span>
      </div>
      <div role="alert" aria-live="assertive">
        <span key={urgent.number}>{urgent.text}</span>
      </div>
    </div>
  )
}

import { useSyncExternalStore } from 'react'

let polite = ''
let assertive = ''
const listeners = new Set<() => void>()

/** Says a sentence to people who use a screen reader; `urgent` interrupts what is being read. */
export function announce(text: string, urgent = false): void {
  if (urgent) assertive = text
  else polite = text
  for (const listener of listeners) listener()
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

/** The live regions that `announce` speaks through; rendered once. */
export function Announcer() {
  const calm = useSyncExternalStore(subscribe, () => polite)
  const urgent = useSyncExternalStore(subscribe, () => assertive)
  return (
    <div className="fd-visually-hidden">
      <div role="status" aria-live="polite">
        {calm}
      </div>
      <div role="alert" aria-live="assertive">
        {urgent}
      </div>
    </div>
  )
}

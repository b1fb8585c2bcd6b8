import { useEffect, useState } from 'react'

interface Still<T> {
  /** The value; during a press, the value at its start. */
  readonly still: T
  /** For the element around those that can be pressed. */
  readonly onPointerDown: () => void
}

/** Holds a value from a press until after its release, so that nothing new appears under the pointer. */
export function useStillWhilePressed<T>(value: T): Still<T> {
  const [held, setHeld] = useState<{ readonly value: T }>()
  const pressed = held !== undefined
  useEffect(() => {
    if (!pressed) return
    let timer: ReturnType<typeof setTimeout> | undefined
    // The click comes after the release.
    const release = () => {
      timer = setTimeout(() => setHeld(undefined))
    }
    const ends = ['pointerup', 'pointercancel'] as const
    for (const end of ends) window.addEventListener(end, release)
    return () => {
      clearTimeout(timer)
      for (const end of ends) window.removeEventListener(end, release)
    }
  }, [pressed])
  return { still: held === undefined ? value : held.value, onPointerDown: () => setHeld({ value }) }
}

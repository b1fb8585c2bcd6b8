import { useEffect, useState } from 'react'

interface Still<T> {
  /** The value, as it was at the press while one lasts. */
  readonly still: T
  /** For the element around what can be pressed. */
  readonly onPointerDown: () => void
}

/** Holds a value from a press until after its release, so that nothing comes between them to where the pointer is. */
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

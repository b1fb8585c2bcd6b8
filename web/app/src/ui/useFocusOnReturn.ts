import { useEffect, useRef, type RefObject } from 'react'

/** Gives the focus to the button that was away while what it opened stood in its place, unless something else has it. */
export function useFocusOnReturn(away: boolean): RefObject<HTMLButtonElement | null> {
  const button = useRef<HTMLButtonElement>(null)
  const was = useRef(away)
  useEffect(() => {
    const now = document.activeElement
    if (was.current && !away && (now === null || now === document.body)) button.current?.focus({ preventScroll: true })
    was.current = away
  }, [away])
  return button
}

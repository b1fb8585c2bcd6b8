import { useEffect, useRef, type RefObject } from 'react'

/** Returns the focus to a button that was replaced by what it opened, unless another element has it. */
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

import { useLayoutEffect, useRef, type RefObject } from 'react'

/**
 * Moves the focus to the field for messages when the question that had it is gone, so that it is not lost. A disabled
 * button loses the focus without an event, which counts as still having it.
 */
export function useFocusAfter(dock: RefObject<HTMLElement | null>) {
  const has = useRef(false)
  useLayoutEffect(() => {
    const around = dock.current?.parentElement
    return () => {
      const now = document.activeElement
      const free = now === document.body || dock.current?.contains(now) !== false
      if (has.current && free) around?.querySelector<HTMLElement>('form[aria-label="New message"] textarea')?.focus({ preventScroll: true })
    }
  }, [dock])
  const takes = (focus: boolean) => () => {
    has.current = focus
  }
  return { onFocus: takes(true), onBlur: takes(false) }
}

import { useLayoutEffect, useMemo } from 'react'

/**
 * Returns the focus to the element that had it when something opened on top of the page, when that is closed, unless
 * another element has it by then. For elements that are removed when they close; those that stay do this themselves.
 */
export function useFocusBack(opened: boolean): void {
  // Read before the opened element is rendered, because that may take the focus at once.
  const before = useMemo(() => (opened ? document.activeElement : null), [opened])
  useLayoutEffect(() => {
    if (!opened) return
    return () => {
      // By then the closed element is removed, and its successor has the focus if it takes it.
      setTimeout(() => {
        const now = document.activeElement
        const free = now === null || now === document.body
        if (free && before instanceof HTMLElement && before.isConnected) before.focus({ preventScroll: true })
      })
    }
  }, [opened, before])
}

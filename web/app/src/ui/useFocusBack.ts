import { useLayoutEffect, useMemo } from 'react'

/**
 * Gives the focus back to what had it when something opened over the page, once that is closed, unless something else
 * has it by then. For what is taken out of the page when it closes; what stays in it does this by itself.
 */
export function useFocusBack(opened: boolean): void {
  // Looked at before what opens is in the page, for it may take the focus with its first breath.
  const before = useMemo(() => (opened ? document.activeElement : null), [opened])
  useLayoutEffect(() => {
    if (!opened) return
    return () => {
      // By then what closed is out of the page, and what follows has taken the focus if it wants it.
      setTimeout(() => {
        const now = document.activeElement
        const free = now === null || now === document.body
        if (free && before instanceof HTMLElement && before.isConnected) before.focus({ preventScroll: true })
      })
    }
  }, [opened, before])
}

import type { KeyboardEvent, RefObject } from 'react'

/**
 * Keys in the list of changed files: `n` and `p` go to the next and the previous one, `v` marks it as viewed, `c` comments
 * on it. In a diff, `c` is of its lines, if some are chosen.
 */
export function useFileKeys(panel: RefObject<HTMLElement | null>): (event: KeyboardEvent) => void {
  return (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.nativeEvent.isComposing) return
    const target = event.target as Element
    if (target.closest('textarea, select, [contenteditable="true"], input:not([type="checkbox"], [type="radio"])') !== null) return
    const files = [...(panel.current?.querySelectorAll<HTMLElement>('li[data-file]') ?? [])]
    const at = files.findIndex((file) => file.contains(target))
    const here = files[at]
    switch (event.key) {
      case 'n':
      case 'p': {
        const next = event.key === 'n' ? at + 1 : at < 0 ? files.length - 1 : at - 1
        const file = files[Math.min(Math.max(next, 0), files.length - 1)]
        file?.querySelector<HTMLElement>('button')?.focus()
        file?.scrollIntoView?.({ block: 'nearest' })
        break
      }
      case 'v':
        here?.querySelector<HTMLElement>('[data-viewed-box]')?.click()
        break
      case 'c':
        here?.querySelector<HTMLElement>('[data-comment-file]')?.click()
        break
      default:
        return
    }
    event.preventDefault()
  }
}

import { cleanup, configure } from '@testing-library/react'
import { afterEach, vi } from 'vitest'

// Nothing is laid out here; lists that render what is on the screen need a screen.
Object.defineProperty(HTMLElement.prototype, 'clientHeight', { configurable: true, get: () => 600 })
Object.defineProperty(HTMLElement.prototype, 'clientWidth', { configurable: true, get: () => 300 })

afterEach(() => {
  cleanup()
  localStorage.clear()
  vi.useRealTimers()
})

// A field that grows with its text listens for fonts that arrive late.
Object.defineProperty(document, 'fonts', { configurable: true, value: new EventTarget() })

// Parts of the page are loaded when they are looked at, which on a busy machine takes longer than the second that is usual.
configure({ asyncUtilTimeout: 10_000 })

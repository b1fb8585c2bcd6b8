import { cleanup, configure } from '@testing-library/react'
import { afterEach, vi } from 'vitest'

// Tests have no layout; lists that render what is on the screen need a size.
Object.defineProperty(HTMLElement.prototype, 'clientHeight', { configurable: true, get: () => 600 })
Object.defineProperty(HTMLElement.prototype, 'clientWidth', { configurable: true, get: () => 300 })

afterEach(() => {
  cleanup()
  localStorage.clear()
  vi.useRealTimers()
})

// A field that grows with its text listens for late fonts.
Object.defineProperty(document, 'fonts', { configurable: true, value: new EventTarget() })

// Parts of the page are loaded on demand, which on a busy machine takes longer than the default second.
configure({ asyncUtilTimeout: 10_000 })

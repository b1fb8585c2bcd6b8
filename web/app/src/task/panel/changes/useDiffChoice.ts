import { useCallback, useState } from 'react'

/** How a person prefers diffs. */
export interface DiffChoice {
  readonly view: 'unified' | 'split'
  /** Whether long lines are wrapped. */
  readonly wrap: boolean
}

const KEPT = 'foundry-diff'
const usual: DiffChoice = { view: 'unified', wrap: true }

/** The stored preference for diffs, and how to change it. */
export function useDiffChoice(): [DiffChoice, (choice: DiffChoice) => void] {
  const [choice, setChoice] = useState(remembered)
  const choose = useCallback((next: DiffChoice) => {
    setChoice(next)
    try {
      localStorage.setItem(KEPT, JSON.stringify(next))
    } catch {
      // Without storage, the choice lasts as long as the page.
    }
  }, [])
  return [choice, choose]
}

function remembered(): DiffChoice {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(KEPT) ?? '{}')
    if (typeof kept !== 'object' || kept === null) return usual
    const view = 'view' in kept && kept.view === 'split' ? 'split' : 'unified'
    const wrap = !('wrap' in kept) || kept.wrap !== false
    return { view, wrap }
  } catch {
    return usual
  }
}

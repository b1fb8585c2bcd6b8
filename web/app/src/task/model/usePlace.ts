import { useCallback } from 'react'
import { useSearchParams } from 'wouter'

/** What a task page shows, from its address. */
export interface Place {
  /** The chosen session; undefined = none was chosen. */
  readonly session: string | undefined
  /** The chosen panel; undefined = none was chosen. */
  readonly panel: string | undefined
  readonly choose: (what: 'session' | 'panel', value: string) => void
}

/** Keeps the chosen session and panel in the address, so that they survive a reload and can be shared. */
export function usePlace(): Place {
  const [search, setSearch] = useSearchParams()
  const choose = useCallback(
    (what: 'session' | 'panel', value: string) => {
      setSearch(
        (before) => {
          const next = new URLSearchParams(before)
          next.set(what, value)
          return next
        },
        { replace: true },
      )
    },
    [setSearch],
  )
  return { session: search.get('session') ?? undefined, panel: search.get('panel') ?? undefined, choose }
}

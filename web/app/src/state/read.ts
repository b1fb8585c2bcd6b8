import { FoundryError } from '@foundry/client'
import { useCallback, useEffect, useState } from 'react'

/** A stored read that a view shows. */
export interface Read<T> {
  /** The newest answer; stays while it is loaded again. */
  readonly data: T | undefined
  readonly error: FoundryError | undefined
  readonly loading: boolean
  /** Loads again. */
  readonly reload: () => void
}

/**
 * Loads something when it is first shown and whenever `key` changes. If only the part of the key after `@` (a
 * version) changes, the former answer stays until the next one has arrived. An undefined key loads nothing.
 */
export function useRead<T>(key: string | undefined, read: (signal: AbortSignal) => Promise<T>): Read<T> {
  const [round, setRound] = useState(0)
  const [state, setState] = useState<{ key?: string; data?: T; error?: FoundryError; loading: boolean }>({ loading: false })
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key identifies what is loaded; `read` is new at every rendering
  useEffect(() => {
    if (key === undefined) return
    const abort = new AbortController()
    setState((before) => ({ key, data: sameThing(before.key, key) ? before.data : undefined, loading: true }))
    read(abort.signal).then(
      (data) => abort.signal.aborted || setState({ key, data, loading: false }),
      (error: unknown) => {
        if (!abort.signal.aborted) setState((before) => ({ key, data: before.data, error: FoundryError.from(error), loading: false }))
      },
    )
    return () => abort.abort()
  }, [key, round])
  const reload = useCallback(() => setRound((before) => before + 1), [])
  const current = key !== undefined && sameThing(state.key, key)
  return {
    data: current ? state.data : undefined,
    error: current ? state.error : undefined,
    loading: key !== undefined && (state.loading || state.key !== key),
    reload,
  }
}

function sameThing(a: string | undefined, b: string): boolean {
  return a !== undefined && a.slice(0, cut(a)) === b.slice(0, cut(b))
}

function cut(key: string): number {
  const at = key.lastIndexOf('@')
  return at === -1 ? key.length : at
}

import { FoundryError } from '@foundry/client'
import { useCallback, useEffect, useRef, useState } from 'react'

/** A stored read: what was read last, and how the newest attempt stands. */
export interface Read<T> {
  readonly value: T | undefined
  readonly loading: boolean
  readonly error: FoundryError | undefined
  /** Reads again. */
  readonly again: () => void
}

/**
 * Reads when `key` appears or changes; undefined = not wanted. Older answers never overtake newer ones, and what was
 * read before stays until the next answer. Nothing is read again by time.
 */
export function useRead<T>(key: string | undefined, read: (signal: AbortSignal) => Promise<T>): Read<T> {
  const [state, setState] = useState<Omit<Read<T>, 'again'>>({ value: undefined, loading: key !== undefined, error: undefined })
  const [round, setRound] = useState(0)
  const latest = useRef(read)
  latest.current = read
  useEffect(() => {
    if (key === undefined) return
    const stop = new AbortController()
    setState((before) => ({ ...before, loading: true, error: undefined }))
    latest.current(stop.signal).then(
      (value) => {
        if (!stop.signal.aborted) setState({ value, loading: false, error: undefined })
      },
      (thrown: unknown) => {
        if (!stop.signal.aborted) setState((before) => ({ ...before, loading: false, error: FoundryError.from(thrown) }))
      },
    )
    return () => stop.abort()
  }, [key, round])
  const again = useCallback(() => setRound((before) => before + 1), [])
  return { ...state, again }
}

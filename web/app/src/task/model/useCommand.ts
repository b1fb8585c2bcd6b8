import { newRequestId } from '@foundry/client'
import { useCallback, useEffect, useRef, useState } from 'react'
import { toastError } from '../../ui'

/** A change that a person asks for. */
export interface Command<A extends readonly unknown[], R> {
  /** Runs it unless it runs already; undefined when it failed, ran already, or what it was for passed meanwhile. */
  readonly run: (...args: A) => Promise<R | undefined>
  readonly busy: boolean
  /** Why it failed the last time; gone at the next run. */
  readonly error: unknown
  /** What it was for has passed: forgets the failure, and asking again is another request. */
  readonly clear: () => void
}

/**
 * A command with its request id: asking again for the same thing after a failure repeats the request with the same
 * id, so that it takes effect once. A failure is kept for the place that asked, which shows it; when that place is gone
 * by then, or what it was for has passed, or shows no errors (`aloud`), a message says it. `failed` says what did not happen, for example "The task was not archived".
 */
export function useCommand<A extends readonly unknown[], R>(
  failed: string,
  call: (requestId: string, ...args: A) => Promise<R>,
  aloud = false,
): Command<A, R> {
  const [busy, setBusy] = useState(false)
  const [error, setError] = useState<unknown>(undefined)
  const running = useRef(false)
  const repeat = useRef<{ of: string; requestId: string } | undefined>(undefined)
  const newest = useRef(call)
  /** Counts what the command was for, one after the other. */
  const occasion = useRef(0)
  const alive = useAlive()
  newest.current = call
  const run = useCallback(
    async (...args: A) => {
      if (running.current) return undefined
      running.current = true
      setBusy(true)
      setError(undefined)
      const of = JSON.stringify(args)
      const requestId = repeat.current?.of === of ? repeat.current.requestId : newRequestId()
      repeat.current = { of, requestId }
      const asked = occasion.current
      const isDue = () => alive.current && occasion.current === asked
      try {
        const answer = await newest.current(requestId, ...args)
        if (occasion.current !== asked) return undefined
        repeat.current = undefined
        return answer
      } catch (reason) {
        if (isDue()) setError(reason)
        if (aloud || !isDue()) toastError(failed, reason)
        return undefined
      } finally {
        running.current = false
        if (alive.current) setBusy(false)
      }
    },
    [failed, alive, aloud],
  )
  const clear = useCallback(() => {
    occasion.current += 1
    repeat.current = undefined
    setError(undefined)
  }, [])
  return { run, busy, error, clear }
}

/** Clears a command whenever there is nothing for it to do: an answer that was lost may have come from what has passed. */
export function useClearedUnless(due: boolean, { clear }: Pick<Command<[], unknown>, 'clear'>): void {
  useEffect(() => {
    if (!due) clear()
  }, [due, clear])
}

/** Whether the component is still there, for answers that come late. */
export function useAlive(): { readonly current: boolean } {
  const alive = useRef(true)
  useEffect(() => {
    alive.current = true
    return () => {
      alive.current = false
    }
  }, [])
  return alive
}

import { FoundryError, newRequestId } from '@foundry/client'
import { useCallback, useEffect, useRef, useState } from 'react'
import { toastError, useAlive } from '../ui'

/** A change that a person asks for. */
export interface Command<A extends readonly unknown[], R> {
  /** Runs it unless it runs already; undefined when it failed, ran already, or what it was for passed meanwhile. */
  readonly run: (...args: A) => Promise<R | undefined>
  readonly busy: boolean
  /** Why it failed the last time; gone at the next run. */
  readonly error: FoundryError | undefined
  /** What it was for has passed: forgets the failure, and asking again is another request. */
  readonly clear: () => void
}

/**
 * Hands out request ids: the same input gets the same id until it succeeded, so that a retry after a lost answer
 * returns the first answer instead of doing it twice; another input gets an id of its own.
 */
export class RequestIds {
  private current: { readonly input: string; readonly id: string } | undefined

  constructor(private readonly fresh: () => string = newRequestId) {}

  /** The id to send with this input. */
  for(input: unknown): string {
    const text = JSON.stringify(input, (_, value: unknown) => (typeof value === 'bigint' ? value.toString() : value)) ?? ''
    if (this.current?.input !== text) this.current = { input: text, id: this.fresh() }
    return this.current.id
  }

  /** The last one is done; the next is a new one even with the same input. */
  done(): void {
    this.current = undefined
  }
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
  const [error, setError] = useState<FoundryError>()
  const running = useRef(false)
  const ids = useRef<RequestIds>(null)
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
      ids.current ??= new RequestIds()
      const asked = occasion.current
      const isDue = () => alive.current && occasion.current === asked
      try {
        const answer = await newest.current(ids.current.for(args), ...args)
        if (occasion.current !== asked) return undefined
        ids.current.done()
        return answer
      } catch (reason) {
        if (isDue()) setError(FoundryError.from(reason))
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
    ids.current?.done()
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

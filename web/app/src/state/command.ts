import { FoundryError, newRequestId } from '@foundry/client'
import { useCallback, useEffect, useRef, useState } from 'react'
import { toastError, useAlive } from '../ui'

/** A change that a person requests. */
export interface Command<A extends readonly unknown[], R> {
  /** Runs it unless it is running already; undefined when it failed, was running, or was cleared since. */
  readonly run: (...args: A) => Promise<R | undefined>
  readonly busy: boolean
  /** The failure of the last run; removed at the next. */
  readonly error: FoundryError | undefined
  /** Removes the failure; the next run is a new request even with the same input. */
  readonly clear: () => void
}

/**
 * Creates request ids: the same input gets the same id until it has succeeded, so that a retry after a lost answer
 * returns the first answer instead of doing it twice; another input gets a new id.
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

  /** The last request is done; the next gets a new id even with the same input. */
  done(): void {
    this.current = undefined
  }
}

/**
 * A command with its request id: repeating the same command after a failure sends the same id, so that it takes
 * effect once. The component that runs it shows a failure; when that component is gone, was cleared, or shows no
 * errors (`aloud`), a message in the corner shows it. `failed`: what did not happen, for example "The task was not
 * archived".
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
  /** Counts calls of `clear`, to ignore answers from before. */
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

/** Clears a command while there is nothing for it to do, so that a later run is not a repeat of an earlier one. */
export function useClearedUnless(due: boolean, { clear }: Pick<Command<[], unknown>, 'clear'>): void {
  useEffect(() => {
    if (!due) clear()
  }, [due, clear])
}

import { FoundryError, newRequestId } from '@foundry/client'
import { useCallback, useRef, useState } from 'react'
import { useAlive } from '../task/model/useCommand'
import { toastError } from '../ui'

/** A command that a person gives: at most one in flight, and a repeat of the same counts once at the server. */
export interface Command<I, O> {
  /** Runs it; undefined when it failed (see `error`) or one is in flight. */
  readonly run: (input: I) => Promise<O | undefined>
  readonly busy: boolean
  readonly error: FoundryError | undefined
  /** Forgets the error. */
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
 * A command as a component uses it; `send` gets the request id to send along. `failed` says what did not happen, for
 * example "The task was not created": a message says it when the component that would show the error is gone by then.
 */
export function useCommand<I, O>(send: (input: I, requestId: string) => Promise<O>, failed = 'It could not be done'): Command<I, O> {
  const [busy, setBusy] = useState(false)
  const [error, setError] = useState<FoundryError>()
  const ids = useRef<RequestIds>(null)
  const inFlight = useRef(false)
  const latest = useRef(send)
  const alive = useAlive()
  latest.current = send
  const run = useCallback(async (input: I): Promise<O | undefined> => {
    if (inFlight.current) return undefined
    ids.current ??= new RequestIds()
    inFlight.current = true
    setBusy(true)
    setError(undefined)
    try {
      const output = await latest.current(input, ids.current.for(input))
      ids.current.done()
      return output
    } catch (thrown) {
      setError(FoundryError.from(thrown))
      if (!alive.current) toastError(failed, thrown)
      return undefined
    } finally {
      inFlight.current = false
      setBusy(false)
    }
  }, [alive, failed])
  const clear = useCallback(() => setError(undefined), [])
  return { run, busy, error, clear }
}

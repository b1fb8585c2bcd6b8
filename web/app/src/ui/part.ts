import { Code, FoundryError } from '@foundry/client'
import { useEffect, useSyncExternalStore } from 'react'

/** State of a part of the page with a file of its own. */
export interface PartState<T> {
  /** The content of the file, once it is loaded. */
  readonly value?: T
  /** Why it could not be loaded. */
  readonly error?: FoundryError
  readonly loading: boolean
}

/** Code that is loaded when it is first needed, and kept. A failure stays until another attempt is requested. */
export class Part<T> {
  private state: PartState<T> = { loading: false }
  private readonly listeners = new Set<() => void>()

  constructor(private readonly read: () => Promise<T>) {}

  readonly get = (): PartState<T> => this.state

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** Loads it, unless that was tried before. */
  readonly want = (): Promise<void> => (this.state.error === undefined ? this.load() : Promise.resolve())

  /** Loads it, even if that failed before. */
  readonly load = async (): Promise<void> => {
    if (this.state.loading || this.state.value !== undefined) return
    this.set({ ...this.state, loading: true })
    try {
      if (lostStyles.size > 0) await restoreStyles()
      this.set({ value: await this.read(), loading: false })
    } catch (error) {
      this.set({ error: missing(error), loading: false })
    }
  }

  /** Removes a failure that was shown, so that the next request for the part tries again. */
  readonly clearError = (): void => this.set({ value: this.state.value, loading: this.state.loading })

  private set(state: PartState<T>): void {
    this.state = state
    for (const listener of this.listeners) listener()
  }
}

/** A part of the page, loaded when it is `wanted`. */
export function usePart<T>(part: Part<T>, wanted = true): PartState<T> {
  const state = useSyncExternalStore(part.subscribe, part.get)
  useEffect(() => {
    if (wanted) void part.want()
  }, [part, wanted])
  return state
}

/**
 * Stylesheets that could not be loaded. A browser reports that once, and may accept what came instead as a
 * stylesheet.
 */
const lostStyles = new Set<HTMLLinkElement>()
document.addEventListener(
  'error',
  ({ target }) => {
    if (target instanceof HTMLLinkElement && target.rel === 'stylesheet') lostStyles.add(target)
  },
  true,
)

/**
 * Loads lost stylesheets again: importing a part again loads its code, but not stylesheets that were requested
 * before.
 */
async function restoreStyles(): Promise<void> {
  await Promise.all([...lostStyles].map(restore))
}

function restore(lost: HTMLLinkElement): Promise<void> {
  return new Promise((resolve, reject) => {
    lostStyles.delete(lost)
    const again = lost.cloneNode() as HTMLLinkElement
    again.addEventListener('load', () => resolve())
    // It is recorded as lost again.
    again.addEventListener('error', () => reject(new Error(`${lost.href} could not be loaded`)))
    lost.replaceWith(again)
  })
}

function missing(cause: unknown): FoundryError {
  return new FoundryError({
    code: Code.Unavailable,
    reason: 'PAGE_PART_MISSING',
    message: 'A file of the page could not be loaded',
    nextAction: 'try again once the server can be reached; after an upgrade of the server, reload the page',
    metadata: { cause: cause instanceof Error ? cause.message : String(cause) },
  })
}

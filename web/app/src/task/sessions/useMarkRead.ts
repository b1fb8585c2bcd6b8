import type { Foundry } from '@foundry/client'
import { useFoundry } from '@foundry/client/react'
import { useCallback, useEffect, useMemo } from 'react'

/** How long the newest entry must have been on the screen before it counts as read, in milliseconds. */
export const READ_DELAY = 1000

/** Records how far a session was read: at most once a second, never back, and only while the tab is visible. */
export class ReadMarker {
  private marked: number
  private wanted = 0
  private timer: ReturnType<typeof setTimeout> | undefined

  constructor(
    private readonly mark: (offset: number) => Promise<unknown>,
    private readonly visible: () => boolean,
    known = 0,
  ) {
    this.marked = known
  }

  /** Another tab has read further. */
  known(offset: number): void {
    this.marked = Math.max(this.marked, offset)
  }

  /** The entry at this offset is on the screen. */
  seen(offset: number): void {
    this.wanted = Math.max(this.wanted, offset)
    if (this.wanted <= this.marked || this.timer !== undefined || !this.visible()) return
    this.timer = setTimeout(() => void this.flush(), READ_DELAY)
  }

  /** The tab is visible again. */
  resume(): void {
    this.seen(this.wanted)
  }

  /** Drops what is not recorded yet. */
  dispose(): void {
    clearTimeout(this.timer)
    this.timer = undefined
  }

  private async flush(): Promise<void> {
    this.timer = undefined
    if (!this.visible() || this.wanted <= this.marked) return
    const before = this.marked
    const offset = this.wanted
    this.marked = offset
    try {
      await this.mark(offset)
    } catch {
      // A mark is not a command of the person: a failure is not shown, and the next entry tries again.
      if (this.marked === offset) this.marked = before
    }
  }
}

const inSight = () => document.visibilityState === 'visible'

/** Marks entries on the screen as read; `known` is the server's mark. */
export function useMarkRead(sessionId: string, known: number): (offset: number) => void {
  const client: Foundry = useFoundry()
  const marker = useMemo(
    () => new ReadMarker((offset) => client.task.markRead({ sessionId, offset: BigInt(offset) }), inSight),
    [client, sessionId],
  )
  marker.known(known)
  useEffect(() => {
    const shown = () => marker.resume()
    document.addEventListener('visibilitychange', shown)
    return () => {
      document.removeEventListener('visibilitychange', shown)
      marker.dispose()
    }
  }, [marker])
  return useCallback((offset) => marker.seen(offset), [marker])
}

import { useCallback, useState } from 'react'

/** A message that was sent from here and may not be in the queue yet. */
export interface Echo {
  readonly requestId: string
  readonly text: string
  /** Revision of the session that contains the message; unset until the answer. */
  readonly rev?: bigint
}

/**
 * Messages being sent: shown until the watch has reached the revision that contains them, because then the queue
 * shows them.
 */
export function useEchoes(rev: bigint) {
  const [echoes, setEchoes] = useState<readonly Echo[]>([])
  const send = useCallback((echo: Echo) => setEchoes((before) => [...without(before, echo.requestId), echo]), [])
  const sent = useCallback((requestId: string, at: bigint | undefined) => {
    setEchoes((before) =>
      at === undefined ? without(before, requestId) : before.map((echo) => (echo.requestId === requestId ? { ...echo, rev: at } : echo)),
    )
  }, [])
  return { echoes: onTheWay(echoes, rev), send, sent }
}

function without(echoes: readonly Echo[], requestId: string): readonly Echo[] {
  return echoes.filter((echo) => echo.requestId !== requestId)
}

/** The messages that a session at revision `rev` does not show yet. */
export function onTheWay(echoes: readonly Echo[], rev: bigint): readonly Echo[] {
  return echoes.filter((echo) => echo.rev === undefined || echo.rev > rev)
}

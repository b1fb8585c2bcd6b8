import { useCallback, useState } from 'react'

/** A message that was sent from here and is not in the queue yet. */
export interface Echo {
  readonly requestId: string
  readonly text: string
  /** Revision of the session that shows the message; unset until it was taken. */
  readonly rev?: bigint
}

/** Messages on their way: shown until the watch has come to the revision that holds them, for the queue is the truth. */
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

/** The echoes that a session watched up to `rev` does not show yet. */
export function onTheWay(echoes: readonly Echo[], rev: bigint): readonly Echo[] {
  return echoes.filter((echo) => echo.rev === undefined || echo.rev > rev)
}

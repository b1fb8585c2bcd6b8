import { useFoundry } from '@foundry/client/react'
import { useClearedUnless, useCommand, type Command } from '../../state/command'

/**
 * Stops the turn of a session; `aloud` where failures have no place of their own. Use it with a `key` of the session.
 */
export function useStop(sessionId: string, running: boolean, aloud = false): Command<[], unknown> {
  const client = useFoundry()
  const stop = useCommand('The turn was not stopped', (requestId: string) => client.task.stopTurn({ requestId, sessionId }), aloud)
  useClearedUnless(running, stop)
  return stop
}

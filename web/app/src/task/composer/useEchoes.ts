import type { QueuedMessage } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useCallback, useState } from 'react'
import type { Transcript } from '../transcript/fold'

/** A message that was sent from here and is not in the queue yet. */
export interface Echo {
  readonly requestId: string
  readonly text: string
  /** Its id once it was taken. */
  readonly messageId?: string
}

/** Messages on their way; the queue and the transcript are the truth, an echo ends when its message is in one of them. */
export function useEchoes(queue: readonly QueuedMessage[], transcript: Transcript) {
  const [echoes, setEchoes] = useState<readonly Echo[]>([])
  const send = useCallback((echo: Echo) => setEchoes((before) => [...without(before, echo.requestId), echo]), [])
  const sent = useCallback((requestId: string, messageId: string | undefined) => {
    setEchoes((before) =>
      messageId === undefined
        ? without(before, requestId)
        : before.map((echo) => (echo.requestId === requestId ? { ...echo, messageId } : echo)),
    )
  }, [])
  return { echoes: unconfirmed(echoes, queue, transcript.turns), send, sent }
}

function without(echoes: readonly Echo[], requestId: string): readonly Echo[] {
  return echoes.filter((echo) => echo.requestId !== requestId)
}

/** The echoes whose messages are neither in the queue nor in the transcript. */
export function unconfirmed(
  echoes: readonly Echo[],
  queue: readonly Pick<QueuedMessage, 'messageId'>[],
  turns: ReadonlySet<string>,
): readonly Echo[] {
  const open = (echo: Echo) => {
    const id = echo.messageId
    return id === undefined || !(turns.has(id) || queue.some((message) => message.messageId === id))
  }
  return echoes.every(open) ? echoes : echoes.filter(open)
}

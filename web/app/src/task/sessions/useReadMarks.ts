import { topics } from '@foundry/client'
import { useTopic } from '@foundry/client/react'
import type { Session } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useCallback, useMemo } from 'react'

/** The offset up to which the person has read each session, according to the server. */
export function useReadMarks(organizationId: string): (sessionId: string) => number {
  const state = useTopic(useMemo(() => topics.userState(organizationId), [organizationId]))
  return useCallback(
    (sessionId) => {
      const item = state?.entities.get(`read/${sessionId}`)?.item
      return item?.case === 'readMark' ? Number(item.value.offset) : 0
    },
    [state],
  )
}

/** Whether a session has unread entries. */
export function isUnread(session: Pick<Session, 'lastOffset'>, mark: number): boolean {
  return Number(session.lastOffset) > mark
}

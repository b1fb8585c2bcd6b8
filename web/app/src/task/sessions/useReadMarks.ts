import { topics } from '@foundry/client'
import { useTopic } from '@foundry/client/react'
import type { Session } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useCallback, useMemo } from 'react'

/** How far the person has read each session, as the server knows it. */
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

/** Whether a session has entries that were not read. */
export function isUnread(session: Pick<Session, 'lastOffset'>, mark: number): boolean {
  return Number(session.lastOffset) > mark
}

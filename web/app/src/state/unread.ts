import type { SessionSummary, TaskSummary, UserStateItem } from '@foundry/client/gen/foundry/task/v1/task_pb'

/** The entities of a user's state, by key. */
export type UserEntities = ReadonlyMap<string, UserStateItem>

/** Offset up to which the user has read a session; 0 = nothing. */
export function readOffset(entities: UserEntities, sessionId: string): bigint {
  const item = entities.get(`read/${sessionId}`)?.item
  return item?.case === 'readMark' ? item.value.offset : 0n
}

/** Whether a session has entries that the user has not seen. */
export function isUnread(session: SessionSummary, entities: UserEntities): boolean {
  return session.lastOffset > readOffset(entities, session.sessionId)
}

/** How many sessions of a task have entries that the user has not seen. */
export function unreadSessions(task: TaskSummary, entities: UserEntities): number {
  return task.sessions.filter((session) => isUnread(session, entities)).length
}

/** Whether an agent of the task waits for a permission or for a form to be filled in. */
export function needsAnswer(task: TaskSummary): boolean {
  return task.sessions.some((session) => session.waitsForPermission)
}

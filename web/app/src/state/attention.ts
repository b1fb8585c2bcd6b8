import { TaskState, type TaskSummary } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { somethingNew, taskStatus, waitsForAnswer, type Status } from '../ui/status'
import { needsAnswer, unreadSessions, type UserEntities } from './unread'

/** A task that waits for a person, and for what. */
export interface Attention {
  readonly task: TaskSummary
  readonly why: Status
}

/** Most entries in the list. */
const MAX_ENTRIES = 50

/** Tasks that wait for the viewer: those with a question first, then failed ones, then those with unread entries. */
export function attention(tasks: readonly TaskSummary[], user: UserEntities, userKnown: boolean): Attention[] {
  const waiting: Attention[] = []
  const failed: Attention[] = []
  const unread: Attention[] = []
  for (const task of tasks) {
    if (needsAnswer(task)) waiting.push({ task, why: waitsForAnswer })
    else if (task.state === TaskState.ERROR) failed.push({ task, why: taskStatus(task.state) })
    else if (userKnown && unreadSessions(task, user) > 0) unread.push({ task, why: somethingNew })
  }
  return [...waiting, ...failed, ...unread].slice(0, MAX_ENTRIES)
}

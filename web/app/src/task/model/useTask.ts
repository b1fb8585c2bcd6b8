import { topics, type FoundryError, type TopicPhase } from '@foundry/client'
import { useTopic } from '@foundry/client/react'
import { SessionState, type Session, type Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useMemo } from 'react'

/** A task with its sessions, kept up to date. */
export interface TaskView {
  readonly phase: TopicPhase
  /** When the phase began, in milliseconds since the epoch. */
  readonly since: number
  readonly error: FoundryError | undefined
  readonly task: Task | undefined
  /** Sessions that are not closed, oldest first. */
  readonly sessions: readonly Session[]
  /** Closed sessions, oldest first. */
  readonly closed: readonly Session[]
}

/** Watches a task. */
export function useTask(taskId: string): TaskView {
  const state = useTopic(useMemo(() => topics.task(taskId), [taskId]))
  return useMemo(() => {
    let task: Task | undefined
    const all: Session[] = []
    for (const { item } of state?.entities.values() ?? []) {
      if (item.case === 'task') task = item.value
      else if (item.case === 'session') all.push(item.value)
    }
    all.sort(byAge)
    return {
      phase: state?.phase ?? 'loading',
      since: state?.since ?? 0,
      error: state?.error,
      task,
      sessions: all.filter((session) => session.state !== SessionState.CLOSED),
      closed: all.filter((session) => session.state === SessionState.CLOSED),
    }
  }, [state])
}

function byAge(a: Session, b: Session): number {
  const seconds = Number((a.createTime?.seconds ?? 0n) - (b.createTime?.seconds ?? 0n))
  const nanos = (a.createTime?.nanos ?? 0) - (b.createTime?.nanos ?? 0)
  return seconds || nanos || (a.sessionId < b.sessionId ? -1 : 1)
}

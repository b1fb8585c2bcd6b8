import type { RepositorySummary, TaskSummary } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { TaskState } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { taskStatus } from '../ui/status'
import { needsAnswer, unreadSessions, type UserEntities } from './unread'

/** How the list of tasks is ordered: by repository, or all by their last change. */
export type ListOrder = 'repository' | 'recent'

/** A row of the list. */
export type ListRow =
  | { readonly kind: 'repository'; readonly repository: RepositorySummary; readonly count: number }
  | { readonly kind: 'task'; readonly task: TaskSummary; readonly unread: number; readonly waits: boolean; readonly repositoryName: string }

/** The input of the list. */
export interface ListInput {
  readonly repositories: readonly RepositorySummary[]
  /** Newest change first. */
  readonly tasks: readonly TaskSummary[]
  readonly user: UserEntities
  readonly userKnown: boolean
  readonly filter: string
  readonly order: ListOrder
}

const failing = new Set<TaskState>([TaskState.ERROR])
const working = new Set<TaskState>([
  TaskState.QUEUED,
  TaskState.NAMING,
  TaskState.PENDING_BRANCH,
  TaskState.CREATING_SANDBOX,
  TaskState.ENSURING_AGENT,
  TaskState.CREATING_SESSION,
  TaskState.RUNNING,
])

type TaskRow = Extract<ListRow, { kind: 'task' }>

const marks: Record<string, (row: TaskRow) => boolean> = {
  'is:unread': (row) => row.unread > 0,
  'is:waiting': (row) => row.waits,
  'is:running': (row) => working.has(row.task.state),
  'is:failed': (row) => failing.has(row.task.state),
}

/** Words with a special meaning in a filter. */
export const filterWords = Object.keys(marks)

/**
 * Whether a row matches: every word of the filter is a mark that applies, or part of title, branch, repository or
 * state.
 */
export function passes(row: TaskRow, filter: string): boolean {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean)
  if (words.length === 0) return true
  const text = [row.task.title, row.task.branch, row.repositoryName, taskStatus(row.task.state).word, row.waits ? 'needs an answer' : '']
    .join('\n')
    .toLowerCase()
  return words.every((word) => marks[word]?.(row) ?? text.includes(word))
}

/** The rows in order. With a filter, repositories without a matching task are left out. */
export function listRows(input: ListInput): ListRow[] {
  const names = new Map(input.repositories.map((it) => [it.repositoryId, it.name]))
  const rows = input.tasks
    .map((task): TaskRow => rowOf(task, names.get(task.repositoryId) ?? '', input))
    .filter((row) => passes(row, input.filter))
  return input.order === 'recent' ? rows : grouped(rows, input)
}

function rowOf(task: TaskSummary, repositoryName: string, input: ListInput): TaskRow {
  const unread = input.userKnown ? unreadSessions(task, input.user) : 0
  return { kind: 'task', task, unread, waits: needsAnswer(task), repositoryName }
}

function grouped(rows: readonly TaskRow[], input: ListInput): ListRow[] {
  const byRepository = new Map<string, TaskRow[]>()
  for (const row of rows) {
    const own = byRepository.get(row.task.repositoryId)
    if (own === undefined) byRepository.set(row.task.repositoryId, [row])
    else own.push(row)
  }
  const filtered = input.filter.trim() !== ''
  const out: ListRow[] = []
  for (const repository of input.repositories) {
    const own = byRepository.get(repository.repositoryId) ?? []
    byRepository.delete(repository.repositoryId)
    if (filtered && own.length === 0) continue
    out.push({ kind: 'repository', repository, count: own.length }, ...own)
  }
  // Tasks without a repository stay reachable.
  for (const orphans of byRepository.values()) out.push(...orphans)
  return out
}

/** Identifies a row, wherever it is. */
export function rowKey(row: ListRow): string {
  return row.kind === 'task' ? `task/${row.task.taskId}` : `repository/${row.repository.repositoryId}`
}

/** The task after (`step` 1) or before (-1) the given one in the list; the first one when none is given. */
export function neighbour(rows: readonly ListRow[], taskId: string | undefined, step: 1 | -1): string | undefined {
  const ids = rows.flatMap((row) => (row.kind === 'task' ? [row.task.taskId] : []))
  const at = taskId === undefined ? -1 : ids.indexOf(taskId)
  if (at === -1) return ids[step === 1 ? 0 : ids.length - 1]
  return ids[Math.min(ids.length - 1, Math.max(0, at + step))]
}

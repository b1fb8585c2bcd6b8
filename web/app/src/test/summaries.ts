import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import {
  OrganizationItemSchema,
  RepositorySummarySchema,
  TaskState,
  TaskSummarySchema,
  UserStateItemSchema,
  type OrganizationItem,
  type RepositorySummary,
  type TaskSummary,
  type UserStateItem,
} from '@foundry/client/gen/foundry/task/v1/task_pb'

/** A task as lists show it; `at` is its last change in seconds. */
export function task(taskId: string, at: number, init: MessageInitShape<typeof TaskSummarySchema> = {}): TaskSummary {
  const defaults = { repositoryId: 'repo_1', title: `Title of ${taskId}`, branch: `foundry/${taskId}`, state: TaskState.IDLE }
  return create(TaskSummarySchema, { ...defaults, ...init, taskId, updateTime: timestampFromMs(at * 1000) })
}

/** A repository as lists show it. */
export function repository(repositoryId: string, name: string): RepositorySummary {
  return create(RepositorySummarySchema, { repositoryId, name, state: 'ready', defaultBranch: 'main' })
}

/** The entities of an organization's summary. */
export function organizationOf(repositories: readonly RepositorySummary[], tasks: readonly TaskSummary[]): [string, OrganizationItem][] {
  return [
    ...repositories.map((value): [string, OrganizationItem] => [
      `repository/${value.repositoryId}`,
      create(OrganizationItemSchema, { item: { case: 'repository', value } }),
    ]),
    ...tasks.map((value): [string, OrganizationItem] => [
      `task/${value.taskId}`,
      create(OrganizationItemSchema, { item: { case: 'task', value } }),
    ]),
  ]
}

/** Read marks by session. */
export function marks(offsets: Record<string, bigint>): Map<string, UserStateItem> {
  return new Map(
    Object.entries(offsets).map(([sessionId, offset]) => [
      `read/${sessionId}`,
      create(UserStateItemSchema, { item: { case: 'readMark', value: { sessionId, offset } } }),
    ]),
  )
}

import { topics, type FoundryError, type TopicPhase, type TopicState } from '@foundry/client'
import { useTopic } from '@foundry/client/react'
import type { OrganizationItem, RepositorySummary, TaskSummary } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { TaskState } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { createContext, createElement, useContext, useMemo, type ReactNode } from 'react'
import type { UserEntities } from './unread'

/** The lists of an organization, with the viewer's own read marks and drafts. */
export interface OrganizationView {
  readonly organizationId: string
  readonly phase: TopicPhase
  readonly since: number
  readonly error?: FoundryError
  /** By name. */
  readonly repositories: readonly RepositorySummary[]
  /** Not archived or killed; newest change first. */
  readonly tasks: readonly TaskSummary[]
  readonly user: UserEntities
  /** Whether the viewer's marks and drafts are loaded; before that nothing counts as unread. */
  readonly userKnown: boolean
}

const hidden = new Set<TaskState>([TaskState.ARCHIVED, TaskState.KILLED])

function newestFirst(a: TaskSummary, b: TaskSummary): number {
  const seconds = (b.updateTime?.seconds ?? 0n) - (a.updateTime?.seconds ?? 0n)
  if (seconds !== 0n) return seconds > 0n ? 1 : -1
  const nanos = (b.updateTime?.nanos ?? 0) - (a.updateTime?.nanos ?? 0)
  return nanos !== 0 ? nanos : a.taskId.localeCompare(b.taskId)
}

/** Sorts the entities of an organization into repositories and tasks. */
export function listsFrom(state: TopicState<OrganizationItem> | undefined): Pick<OrganizationView, 'repositories' | 'tasks'> {
  const repositories: RepositorySummary[] = []
  const tasks: TaskSummary[] = []
  for (const { item } of state?.entities.values() ?? []) {
    if (item.case === 'repository') repositories.push(item.value)
    else if (item.case === 'task' && !hidden.has(item.value.state)) tasks.push(item.value)
  }
  repositories.sort((a, b) => a.name.localeCompare(b.name) || a.repositoryId.localeCompare(b.repositoryId))
  tasks.sort(newestFirst)
  return { repositories, tasks }
}

const nothing: UserEntities = new Map()
const Context = createContext<OrganizationView | undefined>(undefined)

/** Watches an organization for all components below. */
export function OrganizationProvider({ organizationId, children }: { organizationId: string; children: ReactNode }) {
  const summary = useTopic(useMemo(() => topics.organization(organizationId), [organizationId]))
  const mine = useTopic(useMemo(() => topics.userState(organizationId), [organizationId]))
  const lists = useMemo(() => listsFrom(summary), [summary])
  const view = useMemo<OrganizationView>(
    () => ({
      organizationId,
      phase: summary?.phase ?? 'loading',
      since: summary?.since ?? Date.now(),
      error: summary?.error,
      ...lists,
      // A copy for each change, because the client may change its own map in place.
      user: mine === undefined ? nothing : new Map(mine.entities),
      userKnown: mine !== undefined && mine.phase !== 'loading' && mine.phase !== 'ended',
    }),
    [organizationId, summary, lists, mine],
  )
  return createElement(Context.Provider, { value: view }, children)
}

/** The organization around the caller. */
export function useOrganization(): OrganizationView {
  const view = useContext(Context)
  if (view === undefined) throw new Error('useOrganization is for parts inside OrganizationProvider')
  return view
}

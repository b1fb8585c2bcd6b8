import type { RepositorySummary } from '@foundry/client/gen/foundry/task/v1/task_pb'

const key = (organizationId: string): string => `foundry-last-repository/${organizationId}`

/** Remembers where the last task was created. */
export function rememberRepository(organizationId: string, repositoryId: string): void {
  localStorage.setItem(key(organizationId), repositoryId)
}

/** The initial repository: where the last task was created if it still exists, otherwise the first usable one. */
export function initialRepository(organizationId: string, repositories: readonly RepositorySummary[]): string | undefined {
  const last = localStorage.getItem(key(organizationId))
  const known = repositories.find((it) => it.repositoryId === last)
  const usable = repositories.find((it) => it.state === 'ready' || it.state === 'syncing')
  return (known ?? usable ?? repositories[0])?.repositoryId
}

import type { RepositorySummary } from '@foundry/client/gen/foundry/task/v1/task_pb'

const key = (organizationId: string): string => `foundry-last-repository/${organizationId}`

/** Notes where the last task was created. */
export function rememberRepository(organizationId: string, repositoryId: string): void {
  localStorage.setItem(key(organizationId), repositoryId)
}

/** The repository to begin with: where the last task was created if it is still there, else the first that is usable. */
export function initialRepository(organizationId: string, repositories: readonly RepositorySummary[]): string | undefined {
  const last = localStorage.getItem(key(organizationId))
  const known = repositories.find((it) => it.repositoryId === last)
  const usable = repositories.find((it) => it.state === 'ready' || it.state === 'syncing')
  return (known ?? usable ?? repositories[0])?.repositoryId
}

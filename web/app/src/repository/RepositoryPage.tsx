import { Tabs } from '@mantine/core'
import { Code, topics } from '@foundry/client'
import { useFoundry, useTopic } from '@foundry/client/react'
import type { BranchOverview, Repository, RepositoryItem } from '@foundry/client/gen/foundry/repo/v1/repo_pb'
import { IconGitBranch, IconSubtask } from '@tabler/icons-react'
import { useMemo } from 'react'
import { NothingThere } from '../app/NothingThere'
import { useTitle } from '../app/useTitle'
import { useOrganization } from '../state/organization'
import { ErrorState, PageSkeleton, StaleBanner } from '../ui'
import { visibleLine } from '../ui/text/visible'
import { CredentialSection } from './CredentialSection'
import { RepositoryHeader } from './RepositoryHeader'
import classes from './RepositoryPage.module.css'
import { RepositoryTasks } from './RepositoryTasks'
import { StackTree } from './StackTree'
import { WebhookSection } from './WebhookSection'

/** A repository: its mirror, how fresh it is, its branches and its tasks. */
export function RepositoryPage({ repositoryId }: { repositoryId: string }) {
  const state = useTopic(useMemo(() => topics.repository(repositoryId), [repositoryId]))
  const client = useFoundry()
  const { tasks, organizationId } = useOrganization()
  const own = useMemo(() => tasks.filter((it) => it.repositoryId === repositoryId), [tasks, repositoryId])
  const item = state?.entities.get(`repository/${repositoryId}`)?.item
  const repository: Repository | undefined = item?.case === 'repository' ? item.value : undefined
  const entities = state?.entities
  const branches = useMemo(() => branchesOf(entities), [entities])
  useTitle(visibleLine(repository?.name ?? 'Repository'))
  if (state === undefined || (state.phase === 'loading' && repository === undefined)) {
    return <PageSkeleton label="Loading the repository" />
  }
  if (repository === undefined) {
    const error = state.error
    if (error?.code === Code.NotFound) return <NothingThere what="repository" organizationId={organizationId} />
    return error === undefined ? (
      <Gone />
    ) : (
      <ErrorState error={error} title="The repository could not be loaded" onRetry={() => client.reconnectNow()} page />
    )
  }
  return (
    <div className={classes.page}>
      <StaleBanner phase={state.phase} since={state.since} />
      {state.phase === 'ended' && (
        <ErrorState error={state.error} title="Live updates stopped" compact onRetry={() => client.reconnectNow()} />
      )}
      <RepositoryHeader repository={repository} taskCount={own.length} />
      <div className={classes.aside}>
        <CredentialSection repository={repository} rev={state.rev} />
        <WebhookSection repository={repository} rev={state.rev} />
      </div>
      <Tabs defaultValue="branches" keepMounted={false} className={classes.tabs}>
        <Tabs.List>
          <Tabs.Tab value="branches" leftSection={<IconGitBranch size={15} />}>
            Branches <span className="fd-muted">{Math.max(repository.branchCount, branches.length)}</span>
          </Tabs.Tab>
          <Tabs.Tab value="tasks" leftSection={<IconSubtask size={15} />}>
            Tasks <span className="fd-muted">{own.length}</span>
          </Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="branches">
          <StackTree repository={repository} branches={branches} tasks={own} />
        </Tabs.Panel>
        <Tabs.Panel value="tasks">
          <RepositoryTasks repository={repository} tasks={own} />
        </Tabs.Panel>
      </Tabs>
    </div>
  )
}

function branchesOf(entities: ReadonlyMap<string, RepositoryItem> | undefined): BranchOverview[] {
  const branches: BranchOverview[] = []
  for (const { item } of entities?.values() ?? []) {
    if (item.case === 'branch') branches.push(item.value)
  }
  return branches
}

function Gone() {
  return (
    <div className={classes.page}>
      <p role="status" className={classes.gone}>
        This repository was deleted.
      </p>
    </div>
  )
}

import { Button } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import type { Branch, Repository } from '@foundry/client/gen/foundry/repo/v1/repo_pb'
import type { TaskSummary } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { IconGitBranch } from '@tabler/icons-react'
import { useState } from 'react'
import { Link } from 'wouter'
import { paths } from '../app/paths'
import { useRead } from '../state/read'
import { EmptyState, ErrorState, RelativeTime, TextSkeleton } from '../ui'
import { visibleLine } from '../ui/text/visible'
import classes from './RepositoryPage.module.css'

const PAGE = 100

interface Props {
  repository: Repository
  /** Revision of the repository's topic; the branches are loaded again when it changes. */
  rev: bigint
  tasks: readonly TaskSummary[]
}

/** The branches of the mirror as of its last synchronization. */
export function BranchList({ repository, rev, tasks }: Props) {
  const client = useFoundry()
  const [pages, setPages] = useState(1)
  const { repositoryId } = repository
  const read = useRead(`branches@${rev}/${pages}`, async (signal) => {
    const branches: Branch[] = []
    let pageToken = ''
    for (let page = 0; page < pages; page += 1) {
      const answer = await client.repo.listBranches({ repositoryId, pageSize: PAGE, pageToken }, { signal })
      branches.push(...answer.branches)
      pageToken = answer.nextPageToken
      if (pageToken === '') break
    }
    return { branches, more: pageToken !== '' }
  })
  if (read.data === undefined) {
    if (read.error !== undefined) return <ErrorState error={read.error} title="The branches could not be loaded" onRetry={read.reload} />
    return (
      <div style={{ padding: 16 }}>
        <TextSkeleton lines={6} label="Loading branches" />
      </div>
    )
  }
  const { branches, more } = read.data
  if (branches.length === 0) {
    return (
      <EmptyState icon={IconGitBranch} title="No branches">
        {repository.syncTime === undefined ? 'The mirror is not ready. Branches appear here automatically.' : 'It has no branches.'}
      </EmptyState>
    )
  }
  return (
    <>
      {read.error !== undefined && <ErrorState error={read.error} title="The branches may be out of date" onRetry={read.reload} compact />}
      <BranchTable repository={repository} branches={branches} tasks={tasks} />
      <div className={classes.more}>
        <span role="status">
          {branches.length === repository.branchCount
            ? `${branches.length} branches`
            : `${branches.length} of ${repository.branchCount} branches`}
        </span>
        {more && (
          <Button variant="default" onClick={() => setPages(pages + 1)} loading={read.loading}>
            Show more
          </Button>
        )}
      </div>
    </>
  )
}

function BranchTable({
  repository,
  branches,
  tasks,
}: {
  repository: Repository
  branches: readonly Branch[]
  tasks: readonly TaskSummary[]
}) {
  const owners = new Map(tasks.map((task) => [task.branch, task]))
  return (
    <div className={classes.tableWrap}>
      <table className={classes.table}>
        <thead>
          <tr>
            <th scope="col">Branch</th>
            <th scope="col" className={classes.wide}>
              Last change
            </th>
            <th scope="col" className={`${classes.commit} ${classes.wide}`}>
              Commit
            </th>
            <th scope="col" className={classes.age}>
              Age
            </th>
          </tr>
        </thead>
        <tbody>
          {branches.map((branch) => (
            <BranchRow
              key={branch.name}
              branch={branch}
              isDefault={branch.name === repository.defaultBranch}
              owner={owners.get(branch.name)}
              organizationId={repository.organizationId}
            />
          ))}
        </tbody>
      </table>
    </div>
  )
}

interface RowProps {
  branch: Branch
  isDefault: boolean
  owner: TaskSummary | undefined
  organizationId: string
}

function BranchRow({ branch, isDefault, owner, organizationId }: RowProps) {
  return (
    <tr>
      <td className={classes.cell} title={visibleLine(branch.name)}>
        <bdi className={classes.branch}>{visibleLine(branch.name)}</bdi>
        {isDefault && <span className={classes.default}>default</span>}
        <div className={classes.narrow}>
          <Change branch={branch} owner={owner} organizationId={organizationId} />
        </div>
      </td>
      <td className={`${classes.cell} ${classes.wide}`} title={visibleLine(branch.subject)}>
        <Change branch={branch} owner={owner} organizationId={organizationId} />
      </td>
      <td className={`${classes.branch} ${classes.wide}`}>{branch.commit.slice(0, 8)}</td>
      <td className={classes.age}>
        <RelativeTime time={branch.commitTime} />
      </td>
    </tr>
  )
}

/** The last change of a branch; for the branch of a task, the task. */
function Change({ branch, owner, organizationId }: Omit<RowProps, 'isDefault'>) {
  if (owner === undefined) return <bdi>{visibleLine(branch.subject)}</bdi>
  return (
    <Link href={paths.task(organizationId, owner.taskId)}>
      <bdi>{visibleLine(owner.title)}</bdi>
    </Link>
  )
}

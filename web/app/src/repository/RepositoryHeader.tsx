import { Button, Group } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import {
  BranchSyncSource,
  BranchSyncStatus,
  RepositoryState,
  type PullRequestSync,
  type Repository,
} from '@foundry/client/gen/foundry/repo/v1/repo_pb'
import { IconPlus, IconRefresh, IconTrash } from '@tabler/icons-react'
import { useState } from 'react'
import { useLocation } from 'wouter'
import { paths } from '../app/paths'
import { useFrame } from '../shell/frame'
import { useCommand } from '../state/command'
import { useOrganization } from '../state/organization'
import { useAlive } from '../ui/useAlive'
import {
  asksForSomething,
  ConfirmDialog,
  CopyButton,
  Countdown,
  ErrorState,
  RelativeTime,
  repositoryStatus,
  sentence,
  StatusBadge,
  toastDone,
} from '../ui'
import { visibleLine } from '../ui/text/visible'
import classes from './RepositoryPage.module.css'

interface Props {
  repository: Repository
  /** Tasks that are not archived. */
  taskCount: number
}

/** Name, URL, state and freshness of a repository, with its actions. */
export function RepositoryHeader({ repository, taskCount }: Props) {
  const client = useFoundry()
  const frame = useFrame()
  const [asks, setAsks] = useState(false)
  const { repositoryId, state } = repository
  const refresh = useCommand('The refresh was not scheduled', (requestId: string) =>
    client.repo.requestRepositoryRefresh({ repositoryId, requestId }),
  )
  const deleting = state === RepositoryState.DELETING
  const syncing = state === RepositoryState.SYNCING || state === RepositoryState.PENDING
  return (
    <div className={classes.header}>
      <div className={classes.line}>
        <div className={classes.name}>
          <h1>
            <bdi>{visibleLine(repository.name)}</bdi>
          </h1>
          <StatusBadge status={repositoryStatus(state, repository.condition?.reason)} />
        </div>
        <Group gap="xs">
          {frame.canWrite && (
            <>
              <Button leftSection={<IconPlus size={14} />} onClick={() => frame.newTask(repositoryId)} disabled={deleting}>
                New task
              </Button>
              <Button
                variant="default"
                leftSection={<IconRefresh size={14} />}
                onClick={() => void refresh.run()}
                loading={refresh.busy}
                disabled={deleting || syncing}
              >
                Refresh
              </Button>
            </>
          )}
          {frame.canAdminister && (
            <Button variant="default" leftSection={<IconTrash size={14} />} onClick={() => setAsks(true)} disabled={deleting}>
              Delete
            </Button>
          )}
        </Group>
      </div>
      <div className={classes.url}>
        <bdi className="fd-mono fd-truncate">{visibleLine(repository.url)}</bdi>
        <CopyButton value={repository.url} label="Copy URL" />
      </div>
      <Freshness repository={repository} />
      {refresh.error !== undefined && <ErrorState error={refresh.error} title="The refresh was not scheduled" compact />}
      {asks && <DeleteDialog repository={repository} taskCount={taskCount} onClose={() => setAsks(false)} />}
    </div>
  )
}

const SOURCES: Partial<Record<BranchSyncSource, string>> = {
  [BranchSyncSource.POLL]: 'polled',
  [BranchSyncSource.TASK]: 'for a task',
  [BranchSyncSource.REQUEST]: 'on request',
  [BranchSyncSource.WEBHOOK]: 'announced by a webhook',
}

/** How many pull requests are open, how new that is, and how many more calls the host answers. */
function PullRequests({ sync }: { sync: PullRequestSync }) {
  const { asOf, openCount, truncated, stale, apiLimit, apiRemaining } = sync
  return (
    <>
      <div>
        <dt>Pull requests</dt>
        <dd title={stale === undefined ? undefined : visibleLine(sentence(stale.message))}>
          {asOf === undefined ? (
            'not read yet'
          ) : (
            <>
              {openCount}
              {truncated && ' and more'} open, <RelativeTime time={asOf} ago />
            </>
          )}
          {stale !== undefined && `, stale: ${stale.reason}`}
        </dd>
      </div>
      {apiLimit > 0 && (
        <div>
          <dt>Calls left at the host</dt>
          <dd>
            {apiRemaining} of {apiLimit}
          </dd>
        </div>
      )}
    </>
  )
}

/** How new the branches are, why nothing newer is known, and what happens next. */
function Freshness({ repository }: { repository: Repository }) {
  const { branchSync } = repository
  const stale = branchSync?.stale
  const condition = stale ?? repository.condition
  const error = repository.state === RepositoryState.ERROR || branchSync?.status === BranchSyncStatus.STALE
  const asOf = branchSync?.asOf ?? repository.syncTime
  const source = SOURCES[branchSync?.source ?? BranchSyncSource.UNSPECIFIED]
  const next = condition?.nextAttemptTime ?? branchSync?.nextRefreshTime
  return (
    <>
      <dl className={classes.facts}>
        <div>
          <dt>As of</dt>
          <dd>
            {asOf === undefined ? 'never' : <RelativeTime time={asOf} ago />}
            {source !== undefined && `, ${source}`}
          </dd>
        </div>
        {repository.defaultBranch !== '' && (
          <div>
            <dt>Default branch</dt>
            <dd className="fd-mono">
              <bdi>{visibleLine(repository.defaultBranch)}</bdi>
            </dd>
          </div>
        )}
        {next !== undefined && (
          <div>
            <dt>{condition?.nextAttemptTime === undefined ? 'Next refresh' : 'Next attempt'}</dt>
            <dd>
              <Countdown to={next} />
            </dd>
          </div>
        )}
        {repository.pullRequestSync !== undefined && <PullRequests sync={repository.pullRequestSync} />}
        {condition !== undefined && condition.attempt > 1 && (
          <div>
            <dt>Attempt</dt>
            <dd>
              {condition.attempt}
              {condition.maxAttempts > 0 && ` of ${condition.maxAttempts}`}
            </dd>
          </div>
        )}
      </dl>
      {condition !== undefined && condition.message !== '' && (
        <div className={classes.condition} data-error={error} role="status">
          <p>
            {visibleLine(sentence(condition.message))}{' '}
            {stale?.sinceTime !== undefined && (
              <>
                (since <RelativeTime time={stale.sinceTime} ago />){' '}
              </>
            )}
            {condition.reason !== '' && <span className={classes.reason}>{condition.reason}</span>}
          </p>
          {asksForSomething(condition) && <p>{visibleLine(sentence(condition.nextAction))}</p>}
        </div>
      )}
    </>
  )
}

function DeleteDialog({ repository, taskCount, onClose }: Props & { onClose: () => void }) {
  const client = useFoundry()
  const { organizationId } = useOrganization()
  const [, navigate] = useLocation()
  const { repositoryId, name } = repository
  const alive = useAlive()
  const remove = useCommand('The repository was not deleted', (requestId: string) =>
    // Forced only where the dialog says what is lost: somebody may have started a task since it was opened.
    client.repo.deleteRepository({ repositoryId, requestId, force: taskCount > 0 }),
  )
  const confirm = async () => {
    if ((await remove.run()) === undefined) return
    toastDone('The repository is being deleted', visibleLine(name))
    if (!alive.current) return
    onClose()
    navigate(paths.organization(organizationId))
  }
  return (
    <ConfirmDialog
      opened
      onClose={onClose}
      onConfirm={() => void confirm()}
      title={`Delete ${visibleLine(name)}?`}
      confirmLabel="Delete repository"
      dangerous
      busy={remove.busy}
      error={remove.error}
    >
      Its mirror and the changes that tasks made are removed from Foundry, those of ended tasks too; their conversations are kept.{' '}
      {taskCount > 0 && (
        <strong>
          {taskCount === 1 ? 'One task uses it.' : `${taskCount} tasks use it.`} What agents did in it that was not fetched or pushed, and
          anything they do from now on, is lost.{' '}
        </strong>
      )}
      The original repository is not changed.
    </ConfirmDialog>
  )
}

import { Button, Group } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { RepositoryState, type Repository } from '@foundry/client/gen/foundry/repo/v1/repo_pb'
import { IconPlus, IconRefresh, IconTrash } from '@tabler/icons-react'
import { useState } from 'react'
import { useLocation } from 'wouter'
import { paths } from '../app/paths'
import { useFrame } from '../shell/frame'
import { useCommand } from '../state/command'
import { useOrganization } from '../state/organization'
import { useAlive } from '../ui/useAlive'
import { ConfirmDialog, CopyButton, ErrorState, repositoryStatus, StatusBadge, toastDone } from '../ui'
import { visibleLine } from '../ui/text/visible'
import { Freshness } from './Freshness'
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

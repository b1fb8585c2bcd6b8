import { ActionIcon } from '@mantine/core'
import { IconFolder, IconPlus } from '@tabler/icons-react'
import { memo } from 'react'
import { Link } from 'wouter'
import { paths } from '../app/paths'
import { useOrganization } from '../state/organization'
import type { ListRow } from '../state/taskList'
import { repositoryStatus, StatusIcon } from '../ui'
import { useFrame } from './frame'
import { visibleLine } from '../ui/text/visible'
import classes from './TaskList.module.css'

interface Props {
  row: Extract<ListRow, { kind: 'repository' }>
  selected: boolean
  tabIndex: number
}

/** A repository above its tasks; links to its page. */
export const RepositoryRow = memo(function RepositoryRow({ row, selected, tabIndex }: Props) {
  const { organizationId } = useOrganization()
  const frame = useFrame()
  const { repository, count } = row
  const calm = repository.state === 'ready'
  return (
    <span className={classes.repositoryRow}>
      <Link
        href={paths.repository(organizationId, repository.repositoryId)}
        className={classes.repository}
        data-row={`repository/${repository.repositoryId}`}
        aria-current={selected ? 'page' : undefined}
        tabIndex={tabIndex}
        onClick={frame.closeDrawer}
      >
        {calm ? (
          <IconFolder size={15} aria-hidden />
        ) : (
          <StatusIcon status={repositoryStatus(repository.state, repository.reason)} size={15} />
        )}
        <bdi className={classes.name} title={visibleLine(repository.url)}>
          {visibleLine(repository.name)}
        </bdi>
        <span className={classes.count}>
          {count}
          <span className="fd-visually-hidden"> {count === 1 ? 'task' : 'tasks'}</span>
        </span>
      </Link>
      {frame.canWrite && (
        <ActionIcon
          size="sm"
          className={classes.add}
          tabIndex={-1}
          onClick={() => frame.newTask(repository.repositoryId)}
          aria-label={`New task in ${visibleLine(repository.name)}`}
          title={`New task in ${visibleLine(repository.name)}`}
        >
          <IconPlus size={14} />
        </ActionIcon>
      )}
    </span>
  )
})

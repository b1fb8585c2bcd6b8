import { memo } from 'react'
import { Link } from 'wouter'
import { paths } from '../app/paths'
import { useOrganization } from '../state/organization'
import type { ListRow } from '../state/taskList'
import { DiffStat, RelativeTime, StatusBadge, StatusIcon, taskStatus, waitsForAnswer } from '../ui'
import { useFrame } from './frame'
import { visibleLine } from '../ui/text/visible'
import classes from './TaskList.module.css'

interface Props {
  row: Extract<ListRow, { kind: 'task' }>
  selected: boolean
  tabIndex: number
}

/** A task in the list: state, title, unread entries, branch, size of the change, age. */
export const TaskRow = memo(function TaskRow({ row, selected, tabIndex }: Props) {
  const { organizationId } = useOrganization()
  const { closeDrawer } = useFrame()
  const { task, unread, waits } = row
  const status = taskStatus(task.state)
  return (
    <Link
      href={paths.task(organizationId, task.taskId)}
      className={classes.task}
      data-row={`task/${task.taskId}`}
      data-unread={unread > 0}
      aria-current={selected ? 'page' : undefined}
      tabIndex={tabIndex}
      onClick={closeDrawer}
    >
      <span className={classes.state}>
        <StatusIcon status={status} />
      </span>
      <span className={classes.body}>
        <span className={classes.line}>
          <bdi className={classes.title} title={visibleLine(task.title)}>
            {visibleLine(task.title)}
          </bdi>
          {unread > 0 && <span className={classes.dot} role="img" aria-label="unread" title="Unread" />}
        </span>
        <span className={classes.meta}>
          {waits ? <StatusBadge status={waitsForAnswer} size="xs" /> : <Second row={row} word={status.word} />}
          <span className={classes.right}>
            <DiffStat additions={task.additions} deletions={task.deletions} />
            <RelativeTime time={task.updateTime} />
          </span>
        </span>
      </span>
    </Link>
  )
})

/** The start of the second line: the state while it matters, otherwise the branch. */
function Second({ row, word }: { row: Props['row']; word: string }) {
  const { tone } = taskStatus(row.task.state)
  if (tone === 'error' || row.task.branch === '')
    return (
      <span className={classes.word} data-tone={tone}>
        {word}
      </span>
    )
  return (
    <bdi className={classes.branch} title={visibleLine(row.task.branch)}>
      {visibleLine(row.task.branch)}
    </bdi>
  )
}

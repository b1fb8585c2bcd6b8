import { Button } from '@mantine/core'
import type { Repository } from '@foundry/client/gen/foundry/repo/v1/repo_pb'
import type { TaskSummary } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { IconSubtask } from '@tabler/icons-react'
import { Link } from 'wouter'
import { paths } from '../app/paths'
import { useFrame } from '../shell/frame'
import { needsAnswer } from '../state/unread'
import { DiffStat, EmptyState, RelativeTime, StatusBadge, taskStatus, waitsForAnswer } from '../ui'
import { visibleLine } from '../ui/text/visible'
import classes from './RepositoryPage.module.css'

/** The tasks of a repository that are not archived, newest change first. */
export function RepositoryTasks({ repository, tasks }: { repository: Repository; tasks: readonly TaskSummary[] }) {
  const frame = useFrame()
  if (tasks.length === 0) {
    return (
      <EmptyState
        icon={IconSubtask}
        title="No tasks in this repository"
        actions={frame.canWrite && <Button onClick={() => frame.newTask(repository.repositoryId)}>New task</Button>}
      >
        Archived tasks are not listed.
      </EmptyState>
    )
  }
  return (
    <div className={classes.tableWrap}>
      <table className={classes.table}>
        <thead>
          <tr>
            <th scope="col">Task</th>
            <th scope="col" className={classes.wide}>
              Branch
            </th>
            <th scope="col" className={classes.state}>
              State
            </th>
            <th scope="col" className={`${classes.size} ${classes.wide}`}>
              Changes
            </th>
            <th scope="col" className={`${classes.age} ${classes.wide}`}>
              Changed
            </th>
          </tr>
        </thead>
        <tbody>
          {tasks.map((task) => (
            <TaskLine key={task.taskId} task={task} organizationId={repository.organizationId} />
          ))}
        </tbody>
      </table>
    </div>
  )
}

function TaskLine({ task, organizationId }: { task: TaskSummary; organizationId: string }) {
  return (
    <tr>
      <td className={classes.cell}>
        <Link href={paths.task(organizationId, task.taskId)} className={classes.task}>
          <bdi>{visibleLine(task.title)}</bdi>
        </Link>
      </td>
      <td className={`${classes.cell} ${classes.branch} ${classes.wide}`} title={visibleLine(task.branch)}>
        <bdi>{visibleLine(task.branch)}</bdi>
      </td>
      <td>
        <StatusBadge status={needsAnswer(task) ? waitsForAnswer : taskStatus(task.state)} />
      </td>
      <td className={classes.wide}>
        <DiffStat additions={task.additions} deletions={task.deletions} />
      </td>
      <td className={`${classes.age} ${classes.wide}`}>
        <RelativeTime time={task.updateTime} />
      </td>
    </tr>
  )
}

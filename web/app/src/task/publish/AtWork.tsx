import type { Job } from '@foundry/client/gen/foundry/repo/v1/job_pb'
import { useOrganization } from '../../state/organization'
import { InertLine } from '../../ui/text/Inert'

interface Props {
  job: Job
  /** Name of a branch that the job would change. */
  branch: string
  /** The task that has it by the overview; empty if none is known. */
  owner?: string
}

/** The other open tasks that have a branch of a plan. */
export function AtWork({ job, branch, owner = '' }: Props) {
  const { tasks } = useOrganization()
  const others = tasks.filter((task) => task.repositoryId === job.repositoryId && task.taskId !== job.taskId)
  return others
    .filter((task) => task.branch === branch || task.taskId === owner)
    .map((task) => (
      <p key={task.taskId} className="fd-muted">
        <InertLine text={`The open task ${task.title} (${task.taskId}) has this branch`} />
      </p>
    ))
}

import { topics } from '@foundry/client'
import { useTopic } from '@foundry/client/react'
import { IconClock, IconFolder, IconGitBranch, IconRobot } from '@tabler/icons-react'
import type { Session, Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useMemo } from 'react'
import { Link } from 'wouter'
import { CopyButton, DiffStat, RelativeTime, StatusBadge, taskStatus, waitsForPermission } from '../../ui'
import type { Command } from '../model/useCommand'
import { InertLine } from '../text/Inert'
import { Actions } from './Actions'
import { ConditionLine, saysSomething } from './ConditionLine'
import classes from './header.module.css'
import { Prompt } from './Prompt'
import { isProvisioning } from './StageList'
import { Title } from './Title'

interface Props {
  organizationId: string
  task: Task
  sessions: readonly Session[]
  steers: boolean
  retry: Command<[], unknown>
  stop: Command<[], unknown> | undefined
  onExplain: () => void
}

/** Title, state, place and actions of a task. */
export function TaskHeader(props: Props) {
  const { organizationId, task, sessions, steers } = props
  // The question itself, with its answers, is above the composer.
  const waits = sessions.some((session) => session.pendingPermission !== undefined)
  return (
    <header className={classes.header}>
      <div className={classes.top}>
        <Title task={task} steers={steers} />
        <div className={classes.actions}>
          <StatusBadge status={waits ? waitsForPermission : taskStatus(task.state)} />
          <Actions {...props} />
        </div>
      </div>
      <div className={classes.place}>
        <Repository organizationId={organizationId} repositoryId={task.repositoryId} />
        {task.branch !== '' && (
          <span className={classes.fact}>
            <IconGitBranch size={14} aria-hidden />
            <InertLine text={task.branch} className="fd-mono" />
            <CopyButton value={task.branch} label="Copy branch name" />
          </span>
        )}
        {task.baseBranch !== '' && (
          <span className="fd-muted">
            from <InertLine text={task.baseBranch} className="fd-mono" />
          </span>
        )}
        <span className={classes.fact}>
          <IconRobot size={14} aria-hidden />
          <InertLine text={task.agent} />
        </span>
        {task.changes !== undefined && <DiffStat additions={task.changes.additions} deletions={task.changes.deletions} />}
        <span className={classes.fact}>
          <IconClock size={14} aria-hidden />
          <span className="fd-visually-hidden">created </span>
          <RelativeTime time={task.createTime} />
        </span>
      </div>
      <Prompt task={task} />
      {!isProvisioning(task) && !waits && saysSomething(task.condition) && <ConditionLine condition={task.condition} />}
    </header>
  )
}

function Repository({ organizationId, repositoryId }: { organizationId: string; repositoryId: string }) {
  const state = useTopic(useMemo(() => topics.organization(organizationId), [organizationId]))
  const item = state?.entities.get(`repository/${repositoryId}`)?.item
  const name = item?.case === 'repository' ? item.value.name : 'repository'
  return (
    <span className={classes.fact}>
      <IconFolder size={14} aria-hidden />
      <Link href={`/o/${organizationId}/r/${repositoryId}`}>
        <InertLine text={name} />
      </Link>
    </span>
  )
}

import { topics } from '@foundry/client'
import type { Condition } from '@foundry/client/gen/foundry/common/v1/common_pb'
import { useTopic } from '@foundry/client/react'
import { IconClock, IconFolder, IconGitBranch, IconHourglass, IconRobot } from '@tabler/icons-react'
import { SessionState, TaskState, type Session, type Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useMemo } from 'react'
import { Link } from 'wouter'
import { CopyButton, DiffStat, Elapsed, RelativeTime, StatusBadge, taskStatus, waitsForAnswer } from '../../ui'
import type { Command } from '../../state/command'
import { InertLine } from '../../ui/text/Inert'
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
  canEdit: boolean
  retry: Command<[], unknown>
  /** The session that is shown, while it has a running turn. */
  running: string | undefined
  onExplain: () => void
}

/** Title, state, place and actions of a task. */
export function TaskHeader(props: Props) {
  const { organizationId, task, sessions, canEdit } = props
  // The question itself, with its answers, is above the composer.
  const waits = sessions.some((session) => session.pendingPermission !== undefined || session.pendingElicitation !== undefined)
  const trouble = troubleOf(task, sessions, waits)
  const working = workOf(task, waits)
  return (
    <header className={classes.header}>
      <div className={classes.top}>
        <Title task={task} canEdit={canEdit} />
        <div className={classes.actions}>
          <StatusBadge status={waits ? waitsForAnswer : taskStatus(task.state)} />
          <Actions {...props} />
        </div>
      </div>
      <div className={classes.place}>
        <Repository organizationId={organizationId} repositoryId={task.repositoryId} />
        {task.branch !== '' && (
          <span className={`${classes.fact} ${classes.shrinks}`}>
            <IconGitBranch size={14} aria-hidden />
            <InertLine text={task.branch} className={`fd-mono ${classes.branch}`} />
            <CopyButton value={task.branch} label="Copy branch name" />
          </span>
        )}
        {task.existingBranch && <span className={`fd-muted ${classes.minor}`}>existing branch</span>}
        {task.baseBranch !== '' && !task.existingBranch && (
          <span className={`fd-muted ${classes.minor}`}>
            from <InertLine text={task.baseBranch} className="fd-mono" />
          </span>
        )}
        <span className={`${classes.fact} ${classes.minor}`}>
          <IconRobot size={14} aria-hidden />
          <InertLine text={task.agent} />
        </span>
        {task.changes !== undefined && <DiffStat additions={task.changes.additions} deletions={task.changes.deletions} />}
        {working !== undefined && (
          <span className={`${classes.fact} ${classes.minor}`}>
            <IconHourglass size={14} aria-hidden />
            <span>
              waiting on <InertLine text={working.waitingOn.replaceAll('_', ' ')} /> for <Elapsed since={working.sinceTime} />
            </span>
          </span>
        )}
        <span className={classes.fact}>
          <IconClock size={14} aria-hidden />
          <span className="fd-visually-hidden">created </span>
          <RelativeTime time={task.createTime} ago />
        </span>
      </div>
      <Prompt task={task} />
      {trouble && <ConditionLine condition={trouble} />}
      {task.base?.notices.map((notice) => (
        <ConditionLine key={notice.reason} condition={notice} />
      ))}
    </header>
  )
}

/** What the task waits for while all is well: a few words, not a line of its own. */
function workOf({ state, condition }: Task, waits: boolean): Condition | undefined {
  if (waits || state !== TaskState.RUNNING || condition === undefined) return undefined
  return condition.reason === '' && condition.waitingOn !== '' ? condition : undefined
}

/** The trouble of a task, unless the stages, the question or the queue of its only session show it already. */
function troubleOf(task: Task, sessions: readonly Session[], waits: boolean): Condition | undefined {
  const { condition } = task
  if (isProvisioning(task) || waits || !saysSomething(condition) || workOf(task, waits) !== undefined) return undefined
  if (condition.reason === 'QUEUE_HELD' && sessions.filter((it) => it.state !== SessionState.CLOSED).length === 1) return undefined
  return condition
}

function Repository({ organizationId, repositoryId }: { organizationId: string; repositoryId: string }) {
  const state = useTopic(useMemo(() => topics.organization(organizationId), [organizationId]))
  const item = state?.entities.get(`repository/${repositoryId}`)?.item
  const name = item?.case === 'repository' ? item.value.name : 'repository'
  return (
    <span className={classes.fact}>
      <IconFolder size={14} aria-hidden />
      <Link href={`/o/${organizationId}/r/${repositoryId}`} className={classes.branch}>
        <InertLine text={name} />
      </Link>
    </span>
  )
}

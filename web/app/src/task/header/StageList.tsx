import { Button } from '@mantine/core'
import { IconChevronRight } from '@tabler/icons-react'
import { StageState, type Condition, type Stage } from '@foundry/client/gen/foundry/common/v1/common_pb'
import { TaskState, type Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useState } from 'react'
import { Elapsed, ErrorState, millis, spanText, StatusIcon, stageStatus } from '../../ui'
import type { Command } from '../../state/command'
import { InertLine } from '../../ui/text/Inert'
import { ConditionLine, saysSomething } from './ConditionLine'
import classes from './header.module.css'

const names: Readonly<Record<string, string>> = {
  sandbox_allocated: 'Allocate sandbox',
  repo_prepared: 'Prepare repository',
  agent_installing: 'Install agent',
  agent_starting: 'Start agent',
  agent_ready: 'Agent ready',
  session_creating: 'Create session',
  ready: 'Ready',
}
const before = Object.keys(names)

/** Whether a task is being provisioned, or failed to be. */
export function isProvisioning(task: Task): boolean {
  if (task.state === TaskState.ERROR) return shownStages(task).some((stage) => stage.state === StageState.FAILED)
  if (task.state === TaskState.PENDING_BRANCH) return true
  return task.state >= TaskState.QUEUED && task.state <= TaskState.CREATING_SESSION
}

/** The stages from queued to ready: each with its state, attempts, time and reason; one line once all are done. */
export function StageList({ task, retry, canEdit }: { task: Task; retry: Command<[], unknown>; canEdit: boolean }) {
  const provisioning = isProvisioning(task)
  const [opened, setOpened] = useState(false)
  if (!provisioning && task.stages.length === 0) return null
  const open = provisioning || opened
  // Open, it may be higher than its place without any focusable element: keys scroll it.
  return (
    <section className={classes.stages} aria-label="Provisioning" data-open={open} tabIndex={open ? 0 : undefined}>
      {!provisioning && (
        <button type="button" className={classes.stagesLine} aria-expanded={open} onClick={() => setOpened(!opened)}>
          <IconChevronRight size={14} aria-hidden className={classes.chevron} data-open={open} />
          {summary(task)}
        </button>
      )}
      {provisioning && task.state !== TaskState.ERROR && (
        <div className={classes.stagesHead}>
          {task.state === TaskState.QUEUED ? 'Queued' : 'Provisioning'}
          <span className="fd-muted">
            <Elapsed since={task.createTime} />
          </span>
        </div>
      )}
      {provisioning && saysSomething(task.condition) && <ConditionLine condition={task.condition} />}
      {provisioning && task.state === TaskState.ERROR && canEdit && (
        <div className={classes.retry}>
          <Button loading={retry.busy} onClick={() => void retry.run()}>
            Retry from this stage
          </Button>
        </div>
      )}
      {retry.error !== undefined && <ErrorState error={retry.error} title="The task was not retried" compact />}
      {open && (
        <ol className={classes.stageRows}>
          {shownStages(task).map((stage) => (
            <StageRow key={stage.name} stage={stage} shownBelow={provisioning && isShownBy(task.condition, stage)} />
          ))}
        </ol>
      )}
    </section>
  )
}

/** All stages except `error`, because the failed stage itself shows the failure. */
function shownStages(task: Task): readonly Stage[] {
  return task.stages.length > 0 ? task.stages.filter((stage) => stage.name !== 'error') : before.map(pending)
}

/** Whether the condition of the task is the same as the stage's. */
function isShownBy(condition: Condition | undefined, stage: Stage): boolean {
  return condition !== undefined && condition.message !== '' && condition.reason === stage.reason && stage.reason !== ''
}

function StageRow({ stage, shownBelow }: { stage: Stage; shownBelow: boolean }) {
  const status = stageStatus(stage.state)
  const running = stage.state === StageState.RUNNING || stage.state === StageState.WAITING
  return (
    <li className={classes.stage} data-state={stage.state}>
      <StatusIcon status={status} size={15} />
      <span className={classes.stageName}>{names[stage.name] ?? stage.name.replaceAll('_', ' ')}</span>
      <span className={classes.stageFacts}>
        {stage.attempts > 1 && <span>attempt {stage.attempts}</span>}
        {running && <span className={classes.stageWord}>{status.word}</span>}
        {stage.startTime !== undefined && (running || stage.endTime !== undefined) && (
          <Elapsed since={stage.startTime} until={running ? undefined : stage.endTime} />
        )}
      </span>
      {!shownBelow && (stage.message !== '' || stage.reason !== '') && stage.state !== StageState.DONE && (
        <div className={classes.stageText}>
          {stage.message !== '' && <InertLine text={stage.message} />}{' '}
          {stage.reason !== '' && <code className={classes.reason}>{stage.reason}</code>}
        </div>
      )}
    </li>
  )
}

function pending(name: string): Stage {
  return { name, state: StageState.PENDING, attempts: 0, reason: '', message: '' } as Stage
}

function summary(task: Task): string {
  const done = task.stages.filter((stage) => stage.state === StageState.DONE)
  const start = Math.min(...done.map((stage) => millis(stage.startTime) ?? Infinity), millis(task.createTime) ?? Infinity)
  const end = Math.max(...done.map((stage) => millis(stage.endTime) ?? 0), 0)
  const took = Number.isFinite(start) && end > start ? ` in ${spanText(end - start)}` : ''
  return done.length >= before.length ? `Provisioned${took}` : `Provisioning: ${done.length} of ${before.length} stages done`
}

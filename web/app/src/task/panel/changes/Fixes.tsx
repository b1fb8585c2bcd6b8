import { Button, Checkbox, Group } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { Role } from '@foundry/client/gen/foundry/common/v1/common_pb'
import { ChecksState, PullRequestReview, PullRequestState, type ReviewRemark } from '@foundry/client/gen/foundry/common/v1/work_pb'
import type { AutoFix, Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { FixSubject } from '@foundry/client/gen/foundry/task/v1/task_service_pb'
import { useCommand } from '../../../state/command'
import { roleIn, useShell } from '../../../state/shell'
import { ErrorState } from '../../../ui'
import { InertLine, InertText } from '../../../ui/text/Inert'
import { counted } from '../../../ui/text/size'
import { ConditionLine } from '../../header/ConditionLine'
import classes from './notices.module.css'

/** What has failed at the pull request of a task, and what reviewers have written: sent to the agent with one click, or by the rule of the task. */
export function Fixes({ task }: { task: Task }) {
  const pullRequest = task.changes?.publication?.pullRequest
  const mayChange = roleIn(useShell(), task.organizationId) >= Role.MEMBER
  if (pullRequest?.state !== PullRequestState.OPEN) return null
  const failed = pullRequest.checks?.state === ChecksState.FAILED
  const wanting = pullRequest.review === PullRequestReview.CHANGES_REQUESTED || pullRequest.remarks.length > 0
  return (
    <section className={classes.fixes} aria-label="Pull request">
      {pullRequest.remarks.length > 0 && (
        <ul className={classes.remarks} aria-label="What reviewers have written">
          {pullRequest.remarks.map((remark, at) => (
            <li key={at}>
              <InertLine text={placeText(remark)} className="fd-muted" />
              <InertText text={remark.text} />
            </li>
          ))}
          {pullRequest.remarksLeftOut > 0 && (
            <li className="fd-muted">{`and ${counted(pullRequest.remarksLeftOut, 'more remark')}, which only the pull request shows`}</li>
          )}
        </ul>
      )}
      {mayChange && <Send taskId={task.taskId} failed={failed} wanting={wanting} />}
      {(mayChange || task.autoFix?.enabled === true) && <Rule taskId={task.taskId} rule={task.autoFix} disabled={!mayChange} />}
    </section>
  )
}

/** Who has written a remark, and about what, as in `ann on src/a.rs, line 3`. */
function placeText({ reviewer, path, line, wantsChanges }: ReviewRemark): string {
  const who = wantsChanges ? `${reviewer}, who wants changes,` : reviewer
  if (path === '') return wantsChanges ? `${reviewer}, who wants changes` : reviewer
  return line === 0 ? `${who} on ${path}` : `${who} on ${path}, line ${line}`
}

function Send({ taskId, failed, wanting }: { taskId: string; failed: boolean; wanting: boolean }) {
  const client = useFoundry()
  const send = useCommand('The agent was not sent what has failed', (requestId: string, subject: FixSubject) =>
    client.task.requestFix({ requestId, taskId, subject }),
  )
  if (!failed && !wanting) return null
  return (
    <>
      <Group gap="xs">
        {failed && (
          <Button size="compact-sm" variant="default" loading={send.busy} onClick={() => void send.run(FixSubject.CHECKS)}>
            Send failed checks to the agent
          </Button>
        )}
        {wanting && (
          <Button size="compact-sm" variant="default" loading={send.busy} onClick={() => void send.run(FixSubject.REVIEW)}>
            Send review to the agent
          </Button>
        )}
      </Group>
      {send.error !== undefined && <ErrorState error={send.error} title="The agent was not sent what has failed" compact />}
    </>
  )
}

function Rule({ taskId, rule, disabled }: { taskId: string; rule: AutoFix | undefined; disabled: boolean }) {
  const client = useFoundry()
  const on = rule?.enabled === true
  const set = useCommand('The rule was not changed', (requestId: string, enabled: boolean) =>
    client.task.setAutoFix({ requestId, taskId, enabled, maxTries: rule?.maxTries ?? 0 }),
  )
  return (
    <>
      <Checkbox
        size="xs"
        label="Send failures to the agent by itself"
        description={on ? `${counted(rule.tries, 'message')} of at most ${rule.maxTries} sent` : 'When it is idle, a few times at most'}
        checked={on}
        disabled={disabled || set.busy}
        onChange={(event) => void set.run(event.currentTarget.checked)}
      />
      {on && rule.stopped === undefined && rule.waiting !== undefined && <ConditionLine condition={rule.waiting} />}
      {on && rule.stopped !== undefined && (
        <>
          <ConditionLine condition={rule.stopped} />
          {!disabled && (
            <Button size="compact-sm" variant="default" loading={set.busy} onClick={() => void set.run(true)}>
              Let it go on
            </Button>
          )}
        </>
      )}
      {set.error !== undefined && <ErrorState error={set.error} title="The rule was not changed" compact />}
    </>
  )
}

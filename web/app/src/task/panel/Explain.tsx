import { Button } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { IconRefresh } from '@tabler/icons-react'
import type { Condition } from '@foundry/client/gen/foundry/common/v1/common_pb'
import type { Finding, Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { memo } from 'react'
import { ErrorState, ListSkeleton, sentence } from '../../ui'
import { ConditionLine, saysSomething } from '../header/ConditionLine'
import { useRead } from '../../state/read'
import { InertLine } from '../../ui/text/Inert'
import { visibleLine } from '../../ui/text/visible'
import classes from './panel.module.css'

/** What the task waits for, since when, and what can be done; loaded again when its state changes. */
function Explain({ task }: { task: Task }) {
  const client = useFoundry()
  const { taskId } = task
  const why = useRead(`${taskId}@${task.state}:${task.condition?.reason ?? ''}`, (signal) =>
    client.task.explainTask({ taskId }, { signal }),
  )
  if (why.data === undefined) {
    if (why.error !== undefined) return <ErrorState error={why.error} title="The task could not be explained" onRetry={why.reload} />
    return <ListSkeleton rows={5} label="Loading the explanation" />
  }
  return (
    <div className={classes.explain}>
      <div className={classes.explainHead}>
        <span className="fd-muted">What the task is waiting for and what you can do</span>
        <Button variant="default" leftSection={<IconRefresh size={14} />} loading={why.loading} onClick={why.reload}>
          Explain again
        </Button>
      </div>
      <p className={classes.explainSummary}>
        <InertLine text={sentence(why.data.summary)} />
      </p>
      {why.error !== undefined && <ErrorState error={why.error} title="The task could not be explained" compact />}
      <ol className={classes.findings}>
        {why.data.findings.map((finding, at) => (
          <FindingView key={at} finding={finding} />
        ))}
      </ol>
    </div>
  )
}

function FindingView({ finding }: { finding: Finding }) {
  const { condition } = finding
  // What the condition shows in its parts is not repeated as a sentence.
  const text = saysSomething(condition) ? beyond(finding.explanation, condition) : finding.explanation
  return (
    <li className={classes.finding}>
      <div className={classes.findingHead}>
        <strong title={visibleLine(finding.subject)}>
          <InertLine text={subjectName(finding.subject)} />
        </strong>
        <span className={classes.findingState}>{stateWord(finding.state)}</span>
      </div>
      {saysSomething(condition) && <ConditionLine condition={condition} />}
      {text !== '' && <InertLine text={text} />}
    </li>
  )
}

const stateWords: Readonly<Record<string, string>> = {
  error: 'failed',
  'creating sandbox': 'waiting for sandbox',
  'ensuring agent': 'starting agent',
  'pending provision': 'waiting for sandbox',
  'pending session create': 'starting',
  pending: 'mirroring',
  none: 'does not exist',
  imported: 'saved',
}

/** The state of a finding in the words of the page. */
export function stateWord(state: string): string {
  const plain = state.replaceAll('_', ' ')
  return stateWords[plain] ?? plain
}

/** The rest of an explanation after its first sentences, which repeat the condition. */
export function beyond(explanation: string, { nextAction, reason, message, waitingOn }: Condition): string {
  const parts = [nextAction, reason, message, waitingOn, waitingOn.replaceAll('_', ' ')]
  const last = parts.find((part) => part !== '' && explanation.includes(part))
  if (last === undefined) return explanation
  const at = explanation.lastIndexOf(last)
  return explanation.slice(at + last.length).replace(/^[).]+\s*/, '')
}

/** The subject of a finding, without the id: "Task", "Session main", "Stage agent installing". */
export function subjectName(subject: string): string {
  const [kind = '', ...rest] = subject.split(' ')
  const name = rest
    .filter((word) => !/^[a-z]+_[0-9a-f]{16,}$/.test(word))
    .join(' ')
    .replace(/^\((.*)\)$/, '$1')
  const first = kind.charAt(0).toUpperCase() + kind.slice(1)
  return `${first} ${kind === 'stage' ? name.replaceAll('_', ' ') : name}`.trim()
}

export default memo(Explain)

import { Button } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { IconRefresh } from '@tabler/icons-react'
import type { Finding, Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { memo } from 'react'
import { ErrorState, ListSkeleton, sentence } from '../../ui'
import { ConditionLine, saysSomething } from '../header/ConditionLine'
import { useRead } from '../model/useRead'
import { InertLine } from '../text/Inert'
import classes from './panel.module.css'

/** What the task waits on, since when, and what can be done; asked anew when its state changes. */
function Explain({ task }: { task: Task }) {
  const client = useFoundry()
  const { taskId } = task
  const why = useRead(`${taskId}@${task.state}:${task.condition?.reason ?? ''}`, (signal) => client.task.explainTask({ taskId }, { signal }))
  if (why.data === undefined) {
    if (why.error !== undefined) return <ErrorState error={why.error} title="The task could not be explained" onRetry={why.reload} />
    return <ListSkeleton rows={5} label="Looking for what the task waits on" />
  }
  return (
    <div className={classes.explain}>
      <div className={classes.explainHead}>
        <p className={classes.explainSummary}>
          <InertLine text={sentence(why.data.summary)} />
        </p>
        <Button variant="default" leftSection={<IconRefresh size={14} />} loading={why.loading} onClick={why.reload}>
          Explain again
        </Button>
      </div>
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
  const told = condition !== undefined && finding.explanation.includes(condition.message)
  return (
    <li className={classes.finding}>
      <div className={classes.findingHead}>
        <strong>
          <InertLine text={finding.subject} />
        </strong>
        <span className={classes.findingState}>{finding.state.replaceAll('_', ' ')}</span>
      </div>
      {finding.explanation !== '' && <InertLine text={finding.explanation} />}
      {saysSomething(condition) && <ConditionLine condition={told ? { ...condition, message: '' } : condition} />}
    </li>
  )
}

export default memo(Explain)

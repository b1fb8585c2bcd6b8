import { Button } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { IconCircleCheck, IconFolderPlus, IconPlus, IconSubtask } from '@tabler/icons-react'
import { useEffect } from 'react'
import { Link } from 'wouter'
import { paths } from '../app/paths'
import { useTitle } from '../app/useTitle'
import { attention, type Attention } from '../state/attention'
import { useOrganization } from '../state/organization'
import { EmptyState, ErrorState, PageSkeleton, RelativeTime, StatusBadge } from '../ui'
import { useFrame } from './frame'
import { visibleLine } from '../ui/text/visible'
import classes from './Welcome.module.css'

/** The start page of an organization: what waits for the person, and what can be started. */
export function Welcome({ opensNewTask = false }: { opensNewTask?: boolean }) {
  const { tasks, repositories, phase, error } = useOrganization()
  const client = useFoundry()
  const frame = useFrame()
  useTitle(opensNewTask ? 'New task' : 'Tasks')
  // biome-ignore lint/correctness/useExhaustiveDependencies: once per visit of the address
  useEffect(() => {
    if (opensNewTask) frame.newTask()
  }, [opensNewTask])
  if (phase === 'loading') return <PageSkeleton label="Loading the organization" />
  if (phase === 'ended') {
    return <ErrorState error={error} title="The organization could not be loaded" onRetry={() => client.reconnectNow()} page />
  }
  if (repositories.length === 0) {
    return (
      <EmptyState
        level={1}
        icon={IconFolderPlus}
        title="Add a repository to get started"
        actions={frame.canWrite && <Button onClick={frame.addRepository}>Add repository</Button>}
      >
        Foundry mirrors it. Each task gets its own branch, isolated sandbox and agent.
      </EmptyState>
    )
  }
  if (tasks.length === 0) {
    return (
      <EmptyState level={1} icon={IconSubtask} title="No tasks yet" actions={<NewTaskButton />}>
        Describe what should be done in a repository. An agent starts immediately.
      </EmptyState>
    )
  }
  return <Overview />
}

function NewTaskButton() {
  const frame = useFrame()
  if (!frame.canWrite) return null
  return (
    <Button leftSection={<IconPlus size={15} />} onClick={() => frame.newTask()}>
      New task
    </Button>
  )
}

function Overview() {
  const { tasks, user, userKnown, organizationId } = useOrganization()
  const waiting = attention(tasks, user, userKnown)
  return (
    <div className={classes.page}>
      <div className={classes.head}>
        <h1>For you</h1>
        <NewTaskButton />
      </div>
      {waiting.length === 0 ? (
        <EmptyState icon={IconCircleCheck} title="Nothing needs your attention">
          Agents' questions, failed tasks and unread answers appear here.
        </EmptyState>
      ) : (
        <ul className={classes.list}>
          {waiting.map((it) => (
            <Row key={it.task.taskId} it={it} organizationId={organizationId} />
          ))}
        </ul>
      )}
    </div>
  )
}

function Row({ it, organizationId }: { it: Attention; organizationId: string }) {
  return (
    <li>
      <Link href={paths.task(organizationId, it.task.taskId)} className={classes.row}>
        <bdi className={classes.title}>{visibleLine(it.task.title)}</bdi>
        <span className={classes.facts}>
          <StatusBadge status={it.why} />
          <span className={classes.age}>
            <RelativeTime time={it.task.updateTime} ago />
          </span>
        </span>
      </Link>
    </li>
  )
}

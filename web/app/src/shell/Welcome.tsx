import { Button } from '@mantine/core'
import { IconFolderPlus, IconPlus, IconSubtask } from '@tabler/icons-react'
import { useEffect } from 'react'
import { useTitle } from '../app/useTitle'
import { useOrganization } from '../state/organization'
import { needsPermission, unreadSessions } from '../state/unread'
import { EmptyState, PageSkeleton } from '../ui'
import { useFrame } from './frame'

/** The start of an organization: what is going on, and what can be begun. */
export function Welcome({ opensNewTask = false }: { opensNewTask?: boolean }) {
  const { tasks, repositories, phase, user, userKnown } = useOrganization()
  const frame = useFrame()
  useTitle(opensNewTask ? 'New task' : 'Tasks')
  useEffect(() => {
    if (opensNewTask) frame.newTask()
    // Once per visit of the address.
  }, [opensNewTask])
  if (phase === 'loading') return <PageSkeleton label="Loading the organization" />
  const unread = userKnown ? tasks.filter((it) => unreadSessions(it, user) > 0).length : 0
  const waiting = tasks.filter(needsPermission).length
  const facts = [
    `${tasks.length} ${tasks.length === 1 ? 'task' : 'tasks'}`,
    waiting > 0 ? `${waiting} waiting for a permission` : '',
    unread > 0 ? `${unread} with something new` : '',
  ].filter(Boolean)
  if (repositories.length === 0) {
    return (
      <EmptyState
        icon={IconFolderPlus}
        title="Add a repository to begin"
        actions={frame.canWrite && <Button onClick={frame.addRepository}>Add repository</Button>}
      >
        Foundry mirrors it. A task then gets a branch, an isolated sandbox and an agent of its own.
      </EmptyState>
    )
  }
  return (
    <EmptyState
      icon={IconSubtask}
      title={tasks.length === 0 ? 'No tasks yet' : 'Choose a task'}
      actions={
        frame.canWrite && (
          <Button leftSection={<IconPlus size={15} />} onClick={() => frame.newTask()}>
            New task
          </Button>
        )
      }
    >
      {tasks.length === 0 ? 'Say what should be done in a repository; an agent begins at once.' : `${facts.join(', ')}.`}
    </EmptyState>
  )
}

import { Button } from '@mantine/core'
import { IconError404 } from '@tabler/icons-react'
import { Link } from 'wouter'
import { EmptyState } from '../ui'
import { paths } from './paths'

/** Shows that what an address names does not exist, or not for this person, with a link back to the tasks. */
export function NothingThere({ what, organizationId }: { what: 'task' | 'repository'; organizationId: string }) {
  return (
    <EmptyState
      level={1}
      icon={IconError404}
      title={what === 'task' ? 'Task not found' : 'Repository not found'}
      actions={
        <Button component={Link} href={paths.organization(organizationId)} variant="default">
          Go to your tasks
        </Button>
      }
    >
      It was deleted, or it belongs to an organization you are not a member of.
    </EmptyState>
  )
}

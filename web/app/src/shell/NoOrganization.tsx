import { Button } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { IconBuilding } from '@tabler/icons-react'
import { signOut } from '../app/leave'
import { useTitle } from '../app/useTitle'
import { EmptyState } from '../ui'

/** The page of a person without an organization. */
export function NoOrganization() {
  useTitle('No organization')
  const client = useFoundry()
  return (
    <main>
      <EmptyState
        level={1}
        icon={IconBuilding}
        title="You are not in an organization"
        actions={
          <Button variant="default" onClick={() => void signOut(client)}>
            Sign out
          </Button>
        }
      >
        An admin of an organization can add you. This page then updates automatically.
      </EmptyState>
    </main>
  )
}

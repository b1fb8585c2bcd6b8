import { topics } from '@foundry/client'
import { useTopic } from '@foundry/client/react'
import { Role } from '@foundry/client/gen/foundry/common/v1/common_pb'
import { useMemo } from 'react'

/** The signed-in user as a viewer of an organization. */
export interface Viewer {
  /** The organization that is shown. */
  readonly organizationId: string
  readonly userId: string
  readonly role: Role
  /** Whether the viewer may work on tasks. True until the role is known: the server decides. */
  readonly canEdit: boolean
  /** Whether the viewer may read the audit record. */
  readonly audits: boolean
}

const appShell = topics.appShell()

/** The viewer, and the rights of their role in the organization. */
export function useViewer(organizationId: string): Viewer {
  const state = useTopic(appShell)
  return useMemo(() => {
    let userId = ''
    let role = Role.UNSPECIFIED
    for (const { item } of state?.entities.values() ?? []) {
      if (item.case === 'user') userId = item.value.userId
      else if (item.case === 'organization' && item.value.organizationId === organizationId) role = item.value.role
    }
    const unknown = role === Role.UNSPECIFIED
    return { organizationId, userId, role, canEdit: unknown || role >= Role.MEMBER, audits: unknown || role >= Role.ADMIN }
  }, [state, organizationId])
}

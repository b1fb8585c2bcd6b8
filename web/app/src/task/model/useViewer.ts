import { topics } from '@foundry/client'
import { useTopic } from '@foundry/client/react'
import { Role } from '@foundry/client/gen/foundry/common/v1/common_pb'
import { useMemo } from 'react'

/** The person at the page. */
export interface Viewer {
  /** The organization that is looked at. */
  readonly organizationId: string
  readonly userId: string
  readonly role: Role
  /** Whether tasks may be steered. Until the role is known the server is left to decide. */
  readonly steers: boolean
  /** Whether the record of changes may be read. */
  readonly audits: boolean
}

const appShell = topics.appShell()

/** Who is at the page, and what their role in the organization allows. */
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
    return { organizationId, userId, role, steers: unknown || role >= Role.MEMBER, audits: unknown || role >= Role.ADMIN }
  }, [state, organizationId])
}

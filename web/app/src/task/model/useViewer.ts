import { topics } from '@foundry/client'
import { useTopic } from '@foundry/client/react'
import { Role } from '@foundry/client/gen/foundry/common/v1/common_pb'
import { useMemo } from 'react'

/** The person at the page. */
export interface Viewer {
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
    return { userId, role, steers: unknown || role >= Role.MEMBER, audits: unknown || role >= Role.ADMIN }
  }, [state, organizationId])
}

/** A user as they are named to the person at the page: names of others are not known here. */
export function personName(userId: string, viewer: Viewer): string {
  if (userId === '') return ''
  return userId === viewer.userId ? 'You' : `Member ${userId.replace(/^usr_/, '').slice(-6)}`
}

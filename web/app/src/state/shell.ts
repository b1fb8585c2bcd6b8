import { topics, type FoundryError, type TopicPhase, type TopicState } from '@foundry/client'
import { useTopic } from '@foundry/client/react'
import type { AppShellItem, ShellOrganization, ShellUser } from '@foundry/client/gen/foundry/auth/v1/auth_pb'
import { Role } from '@foundry/client/gen/foundry/common/v1/common_pb'
import { useMemo } from 'react'

/** The signed-in user, and their organizations. */
export interface Shell {
  readonly phase: TopicPhase
  /** Undefined until known. */
  readonly user: ShellUser | undefined
  /** By name. */
  readonly organizations: readonly ShellOrganization[]
  readonly error?: FoundryError
}

/** Sorts the entities of the app shell. */
export function shellFrom(state: TopicState<AppShellItem> | undefined): Shell {
  let user: ShellUser | undefined
  const organizations: ShellOrganization[] = []
  for (const { item } of state?.entities.values() ?? []) {
    if (item.case === 'user') user = item.value
    else if (item.case === 'organization') organizations.push(item.value)
  }
  organizations.sort((a, b) => a.name.localeCompare(b.name))
  return { phase: state?.phase ?? 'loading', user, organizations, error: state?.error }
}

const topic = topics.appShell()

/** The app shell, kept up to date. */
export function useShell(): Shell {
  const state = useTopic(topic)
  return useMemo(() => shellFrom(state), [state])
}

/** The organization to open first: the active one, otherwise the first; undefined when there is none. */
export function homeOrganization(shell: Shell): string | undefined {
  const active = shell.user?.activeOrganizationId ?? ''
  const known = shell.organizations.some((organization) => organization.organizationId === active)
  return known ? active : shell.organizations[0]?.organizationId
}

/** The person's role in an organization; VIEWER while that is unknown. */
export function roleIn(shell: Shell, organizationId: string): Role {
  return shell.organizations.find((it) => it.organizationId === organizationId)?.role ?? Role.VIEWER
}

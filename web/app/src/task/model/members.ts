import type { Foundry } from '@foundry/client'
import { useFoundry } from '@foundry/client/react'
import { useEffect, useSyncExternalStore } from 'react'
import type { Viewer } from './useViewer'

const PAGE = 500

/**
 * The logins of an organization's members: loaded when a name is first needed, and again for users who have joined
 * since.
 */
class Members {
  private logins: ReadonlyMap<string, string> = new Map()
  private readonly sought = new Set<string>()
  private readonly listeners = new Set<() => void>()
  private reading = false

  constructor(
    private readonly client: Foundry,
    private readonly organizationId: string,
  ) {}

  readonly get = (): ReadonlyMap<string, string> => this.logins

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** Loads the login of a user if it is missing; once per user. */
  want(userId: string): void {
    if (this.logins.has(userId) || this.sought.has(userId)) return
    this.sought.add(userId)
    if (!this.reading) void this.read()
  }

  private async read(): Promise<void> {
    this.reading = true
    try {
      const logins = new Map<string, string>()
      let pageToken = ''
      do {
        const page = await this.client.auth.listMembers({ organizationId: this.organizationId, pageSize: PAGE, pageToken })
        for (const { userId, login } of page.members) logins.set(userId, login)
        pageToken = page.nextPageToken
      } while (pageToken !== '')
      this.logins = logins
      for (const listener of this.listeners) listener()
    } catch {
      // A short form of the id is shown instead; the next view that needs the name tries again.
      this.sought.clear()
    } finally {
      this.reading = false
    }
  }
}

const known = new WeakMap<Foundry, Map<string, Members>>()

function membersOf(client: Foundry, organizationId: string): Members {
  const organizations = known.get(client) ?? new Map<string, Members>()
  known.set(client, organizations)
  const members = organizations.get(organizationId) ?? new Members(client, organizationId)
  organizations.set(organizationId, members)
  return members
}

/** A user's name for the viewer: "You", a login, or a short form of the id until the login is known. */
export function usePersonName(userId: string, viewer: Viewer): string {
  const members = membersOf(useFoundry(), viewer.organizationId)
  const login = useSyncExternalStore(members.subscribe, members.get).get(userId)
  // Until the viewer is known, nobody's login is loaded.
  const other = userId.startsWith('usr_') && viewer.userId !== '' && userId !== viewer.userId
  useEffect(() => {
    if (other) members.want(userId)
  }, [members, other, userId])
  if (userId === '') return ''
  if (userId === viewer.userId) return 'You'
  return login ?? `Member ${userId.replace(/^usr_/, '').slice(-6)}`
}

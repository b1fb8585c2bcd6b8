import type { Client } from '@connectrpc/connect'
import { useFoundry } from '@foundry/client/react'
import type { AgentProfile, ModelLimit, ModelProvider, ModelUsage } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { ProfileService } from '@foundry/client/gen/foundry/provisioner/v1/profile_service_pb'
import { useRead, type Read } from './read'

const PAGE = 500

type Calls = Client<typeof ProfileService>

/** The client for model providers and agent profiles; only for parts of the page that are loaded on demand. */
export function useProfileCalls(): Calls {
  return useFoundry().callsOf(ProfileService)
}

async function allPages<T>(read: (pageToken: string) => Promise<{ page: T[]; nextPageToken: string }>): Promise<T[]> {
  const all: T[] = []
  for (let pageToken = ''; ; ) {
    const { page, nextPageToken } = await read(pageToken)
    all.push(...page)
    if (nextPageToken === '') return all
    pageToken = nextPageToken
  }
}

/** The model providers of an organization, those of the environment first. */
export function useModelProviders(organizationId: string): Read<ModelProvider[]> {
  const calls = useProfileCalls()
  return useRead(organizationId, (signal) =>
    allPages(async (pageToken) => {
      const { modelProviders, nextPageToken } = await calls.listModelProviders({ organizationId, pageSize: PAGE, pageToken }, { signal })
      return { page: modelProviders, nextPageToken }
    }),
  )
}

/** The agent profiles of an organization by name. */
export function useAgentProfiles(organizationId: string): Read<AgentProfile[]> {
  const calls = useProfileCalls()
  return useRead(organizationId, (signal) =>
    allPages(async (pageToken) => {
      const { profiles, nextPageToken } = await calls.listAgentProfiles({ organizationId, pageSize: PAGE, pageToken }, { signal })
      return { page: profiles, nextPageToken }
    }),
  )
}

/** The limits of an organization, with what has been used. */
export function useModelLimits(organizationId: string): Read<ModelLimit[]> {
  const calls = useProfileCalls()
  return useRead(organizationId, async (signal) => (await calls.listModelLimits({ organizationId }, { signal })).limits)
}

/** What an organization has used, by model provider and model. */
export function useModelUsage(organizationId: string): Read<ModelUsage[]> {
  const calls = useProfileCalls()
  return useRead(organizationId, async (signal) => (await calls.listModelUsage({ organizationId }, { signal })).usage)
}

import { useFoundry } from '@foundry/client/react'
import type { AccessToken } from '@foundry/client/gen/foundry/auth/v1/auth_pb'
import { useRead, type Read } from './read'

const PAGE = 500

/** The person's access tokens in all of their organizations, newest first, with those that were revoked. */
export function useAccessTokens(): Read<AccessToken[]> {
  const client = useFoundry()
  return useRead('access-tokens', async (signal) => {
    const all: AccessToken[] = []
    for (let pageToken = ''; ; ) {
      const page = await client.auth.listAccessTokens({ pageSize: PAGE, pageToken }, { signal })
      all.push(...page.accessTokens)
      if (page.nextPageToken === '') return all
      pageToken = page.nextPageToken
    }
  })
}

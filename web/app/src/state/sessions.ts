import { useFoundry } from '@foundry/client/react'
import { SignInMeans, type Session } from '@foundry/client/gen/foundry/auth/v1/session_pb'
import { useRead, type Read } from './read'

const PAGE = 500

/** The person's sign-in sessions that are valid, newest first. */
export function useSessions(): Read<Session[]> {
  const client = useFoundry()
  return useRead('sessions', async (signal) => {
    const all: Session[] = []
    for (let pageToken = ''; ; ) {
      const page = await client.auth.listSessions({ pageSize: PAGE, pageToken }, { signal })
      all.push(...page.sessions)
      if (page.nextPageToken === '') return all
      pageToken = page.nextPageToken
    }
  })
}

/** How the person signed in; undefined if that is not recorded. The name of a provider is from the configuration. */
export function signInWords(session: Session): string | undefined {
  switch (session.means) {
    case SignInMeans.DEVELOPMENT:
      return 'Development secret'
    case SignInMeans.PROVIDER:
      return session.provider
    case SignInMeans.DEVICE_CODE:
      return 'Code typed in a browser'
    case SignInMeans.BROWSER:
      return 'Browser on the same machine'
    default:
      return undefined
  }
}

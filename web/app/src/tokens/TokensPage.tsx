import { Button } from '@mantine/core'
import type { AccessToken } from '@foundry/client/gen/foundry/auth/v1/auth_pb'
import { IconPlus } from '@tabler/icons-react'
import { useEffect, useRef, useState } from 'react'
import { useTitle } from '../app/useTitle'
import { useOrganization } from '../state/organization'
import { useShell } from '../state/shell'
import { useAccessTokens } from '../state/tokens'
import { EmptyState, ErrorState, millis, TextSkeleton, useFocusBack, useNow } from '../ui'
import { CreateTokenDialog } from './CreateTokenDialog'
import { RevokeTokenDialog } from './RevokeTokenDialog'
import { TokenRow } from './TokenRow'
import classes from './TokensPage.module.css'

const MINUTE = 60_000

/** The person's access tokens, for `foundry` and other programs. Loaded when the page is opened and after each change made here. */
export function TokensPage() {
  const { organizationId } = useOrganization()
  const { organizations } = useShell()
  const read = useAccessTokens()
  const now = useNow(MINUTE)
  const [creates, setCreates] = useState(false)
  const [revokes, setRevokes] = useState<AccessToken>()
  const heading = useRef<HTMLHeadingElement>(null)
  useTitle('Access tokens')
  useFocusBack(creates || revokes !== undefined)
  useFocusKept(read.data, heading)
  const isPast = (it: AccessToken) => it.revokeTime !== undefined || (millis(it.expireTime) ?? Infinity) <= now
  const valid = read.data?.filter((it) => !isPast(it)) ?? []
  const past = read.data?.filter(isPast) ?? []
  const row = (token: AccessToken, onRevoke?: () => void) => (
    <TokenRow
      key={token.accessTokenId}
      token={token}
      organization={organizations.find((it) => it.organizationId === token.organizationId)?.name}
      onRevoke={onRevoke}
    />
  )
  return (
    <div className={classes.page}>
      <div className={classes.line}>
        <h1 ref={heading} tabIndex={-1} className={classes.title}>
          Access tokens
        </h1>
        <Button variant="default" leftSection={<IconPlus size={14} />} onClick={() => setCreates(true)}>
          Create access token
        </Button>
      </div>
      <p className={classes.about}>
        For <code>foundry</code>, git and other programs that act as you. A token is for one organization, where it may do what you may.
      </p>
      {read.error !== undefined && (
        <ErrorState error={read.error} title="The access tokens could not be loaded" onRetry={read.reload} compact />
      )}
      {read.data === undefined && read.error === undefined && <TextSkeleton lines={4} label="Loading access tokens" />}
      {read.data !== undefined && valid.length === 0 && (
        <EmptyState title="No access tokens">Create one to use Foundry from a program.</EmptyState>
      )}
      {valid.length > 0 && (
        <ul aria-label="Access tokens" className={classes.list}>
          {valid.map((token) => row(token, () => setRevokes(token)))}
        </ul>
      )}
      {past.length > 0 && (
        <details className={classes.past}>
          <summary>Revoked and expired ({past.length})</summary>
          <ul aria-label="Revoked and expired" className={classes.list}>
            {past.map((token) => row(token))}
          </ul>
        </details>
      )}
      {creates && (
        <CreateTokenDialog
          organizationId={organizationId}
          organizations={organizations}
          onClose={() => setCreates(false)}
          onCreated={read.reload}
        />
      )}
      {revokes !== undefined && <RevokeTokenDialog token={revokes} onClose={() => setRevokes(undefined)} onRevoked={read.reload} />}
    </div>
  )
}

/** Moves the focus to the heading when the button that had it went with its token. */
function useFocusKept(data: unknown, heading: { readonly current: HTMLElement | null }): void {
  const loaded = useRef(false)
  useEffect(() => {
    if (data === undefined) return
    if (loaded.current && document.activeElement === document.body) heading.current?.focus({ preventScroll: true })
    loaded.current = true
  }, [data, heading])
}

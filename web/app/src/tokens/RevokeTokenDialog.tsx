import { useFoundry } from '@foundry/client/react'
import type { AccessToken } from '@foundry/client/gen/foundry/auth/v1/auth_pb'
import { RemovalDialog } from '../state/RemovalDialog'
import { visibleLine } from '../ui/text/visible'

interface Props {
  token: AccessToken
  onClose: () => void
  onRevoked: () => void
}

/** Asks before an access token is revoked. */
export function RevokeTokenDialog({ token, onClose, onRevoked }: Props) {
  const client = useFoundry()
  const { accessTokenId } = token
  const name = visibleLine(token.name)
  return (
    <RemovalDialog
      title={`Revoke ${name}?`}
      confirmLabel="Revoke access token"
      failed="The access token was not revoked"
      done="The access token was revoked"
      name={name}
      remove={(requestId) => client.auth.revokeAccessToken({ accessTokenId, requestId })}
      onClose={onClose}
      onRemoved={onRevoked}
    >
      Programs that use it are refused from now on. It cannot be made valid again.
    </RemovalDialog>
  )
}

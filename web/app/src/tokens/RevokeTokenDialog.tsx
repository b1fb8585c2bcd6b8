import { useFoundry } from '@foundry/client/react'
import type { AccessToken } from '@foundry/client/gen/foundry/auth/v1/auth_pb'
import { useCommand } from '../state/command'
import { visibleLine } from '../ui/text/visible'
import { ConfirmDialog, toastDone, useAlive } from '../ui'

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
  const revoke = useCommand('The access token was not revoked', (requestId: string) =>
    client.auth.revokeAccessToken({ accessTokenId, requestId }),
  )
  const alive = useAlive()
  const confirm = async () => {
    if ((await revoke.run()) === undefined) return
    toastDone('The access token was revoked', name)
    onRevoked()
    if (alive.current) onClose()
  }
  return (
    <ConfirmDialog
      opened
      onClose={onClose}
      onConfirm={() => void confirm()}
      title={`Revoke ${name}?`}
      confirmLabel="Revoke access token"
      dangerous
      busy={revoke.busy}
      error={revoke.error}
    >
      Programs that use it are refused from now on. It cannot be made valid again.
    </ConfirmDialog>
  )
}

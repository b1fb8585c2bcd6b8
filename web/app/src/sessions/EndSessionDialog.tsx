import { useFoundry } from '@foundry/client/react'
import type { Session } from '@foundry/client/gen/foundry/auth/v1/session_pb'
import { RemovalDialog } from '../state/RemovalDialog'
import { sessionName } from './SessionRow'

interface Props {
  session: Session
  onClose: () => void
  onEnded: () => void
}

/** Asks before a session is ended. */
export function EndSessionDialog({ session, onClose, onEnded }: Props) {
  const client = useFoundry()
  const { credentialId } = session
  const name = sessionName(session)
  return (
    <RemovalDialog
      title={`End the session of ${name}?`}
      confirmLabel="End session"
      failed="The session was not ended"
      done="The session was ended"
      name={name}
      remove={(requestId) => client.auth.revokeSession({ credentialId, requestId })}
      onClose={onClose}
      onRemoved={onEnded}
    >
      It is signed out within a second. What it did stays; to use it again, sign in there. Access tokens that it made stay valid: revoke
      those that you do not know under “Access tokens”.
    </RemovalDialog>
  )
}

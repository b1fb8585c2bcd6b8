import { Button } from '@mantine/core'
import { SessionKind, type Session } from '@foundry/client/gen/foundry/auth/v1/session_pb'
import { IconLogout } from '@tabler/icons-react'
import type { ReactNode } from 'react'
import { signInWords } from '../state/sessions'
import { visibleLine } from '../ui/text/visible'
import { fullTime, millis, RelativeTime } from '../ui'
import classes from './SessionsPage.module.css'

/** What a session is called in the list and in labels. */
export function sessionName(session: Session): string {
  if (session.device !== '') return visibleLine(session.device)
  return session.kind === SessionKind.PAGE ? 'A browser' : 'A program'
}

/** A session in the list. The one of this page is not ended here: it has "Sign out". */
export function SessionRow({ session, onEnd }: { session: Session; onEnd: () => void }) {
  const name = sessionName(session)
  const how = signInWords(session)
  const expires = millis(session.expireTime)
  return (
    <li className={classes.entry}>
      <div className={classes.line}>
        <bdi className={classes.name}>{name}</bdi>
        {session.current ? (
          <span className={classes.current}>This browser</span>
        ) : (
          <Button variant="default" leftSection={<IconLogout size={14} />} onClick={onEnd} aria-label={`End ${name}`}>
            End
          </Button>
        )}
      </div>
      <dl className={classes.facts}>
        {how !== undefined && (
          <Fact name="Signed in by">
            <bdi>{visibleLine(how)}</bdi>
          </Fact>
        )}
        {session.address !== '' && <Fact name="From">{visibleLine(session.address)}</Fact>}
        <Fact name="Since">
          <RelativeTime time={session.createTime} ago />
        </Fact>
        <Fact name="Last seen">
          <RelativeTime time={session.lastUseTime ?? session.createTime} ago />
        </Fact>
        {expires !== undefined && <Fact name="Ends">{fullTime(expires)}</Fact>}
      </dl>
    </li>
  )
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  )
}

import { Button } from '@mantine/core'
import type { AccessToken } from '@foundry/client/gen/foundry/auth/v1/auth_pb'
import { IconTrash } from '@tabler/icons-react'
import type { ReactNode } from 'react'
import { visibleLine } from '../ui/text/visible'
import { fullTime, millis, RelativeTime } from '../ui'
import classes from './TokensPage.module.css'

interface Props {
  token: AccessToken
  /** Name of the token's organization; undefined = the person is no longer in it. */
  organization: string | undefined
  /** Without it, the token is past. */
  onRevoke?: () => void
}

/** An access token in the list, without its value. */
export function TokenRow({ token, organization, onRevoke }: Props) {
  const name = visibleLine(token.name)
  const expires = millis(token.expireTime)
  const revoked = token.revokeTime
  return (
    <li className={classes.entry}>
      <div className={classes.line}>
        <bdi className={classes.name}>{name}</bdi>
        {onRevoke !== undefined && (
          <Button variant="default" leftSection={<IconTrash size={14} />} onClick={onRevoke} aria-label={`Revoke ${name}`}>
            Revoke
          </Button>
        )}
      </div>
      <dl className={classes.facts}>
        <Fact name="Organization">
          <bdi>{visibleLine(organization ?? token.organizationId)}</bdi>
        </Fact>
        <Fact name="Created">
          <RelativeTime time={token.createTime} ago />
        </Fact>
        {revoked === undefined ? (
          <Fact name={onRevoke === undefined ? 'Expired' : 'Expires'}>{expires === undefined ? 'never' : fullTime(expires)}</Fact>
        ) : (
          <Fact name="Revoked">
            <RelativeTime time={revoked} ago />
          </Fact>
        )}
        <Fact name="Last used">{token.lastUseTime === undefined ? 'never' : <RelativeTime time={token.lastUseTime} ago />}</Fact>
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

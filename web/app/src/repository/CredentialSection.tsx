import { Button, Group } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import type { RepositoryCredential } from '@foundry/client/gen/foundry/repo/v1/credential_pb'
import { RepositoryCredentialKind, RepositoryCredentialState } from '@foundry/client/gen/foundry/repo/v1/credential_pb'
import type { Repository } from '@foundry/client/gen/foundry/repo/v1/repo_pb'
import { IconKey } from '@tabler/icons-react'
import { useState } from 'react'
import { useFrame } from '../shell/frame'
import { useCommand } from '../state/command'
import { RemovalDialog } from '../state/RemovalDialog'
import { useRead } from '../state/read'
import { ErrorState } from '../ui'
import { visibleLine } from '../ui/text/visible'
import { CredentialForm } from './CredentialForm'
import classes from './RepositoryPage.module.css'
import { originOf } from './url'

/** Reasons for which a repository waits for a credential, and those for which its pull requests do. */
const WANTED = new Set([
  'REPOSITORY_CREDENTIALS_REQUIRED',
  'REPOSITORY_CREDENTIALS_REFUSED',
  'GITHUB_APP_REFUSED',
  'GITHUB_APP_NOT_INSTALLED',
])
const WANTED_BY_API = new Set(['FORGE_CREDENTIALS_REQUIRED', 'FORGE_CREDENTIALS_REFUSED'])

interface Props {
  repository: Repository
  /** Revision of the repository's topic; the credentials are loaded again when it changes. */
  rev: bigint
}

/** The credential that a remote repository is reached with, and the form for one that it needs. */
export function CredentialSection({ repository, rev }: Props) {
  const origin = originOf(repository.url)
  return origin === undefined ? null : <OfRemote repository={repository} rev={rev} origin={origin} />
}

function OfRemote({ repository, rev, origin }: Props & { origin: string }) {
  const client = useFoundry()
  const frame = useFrame()
  const [asks, setAsks] = useState<'replace' | 'remove'>()
  const { organizationId, repositoryId } = repository
  const read = useRead(`${repositoryId}@${rev}`, async (signal) => {
    const all: RepositoryCredential[] = []
    let pageToken = ''
    do {
      const page = await client.repo.listRepositoryCredentials({ organizationId, pageSize: 500, pageToken }, { signal })
      all.push(...page.repositoryCredentials)
      pageToken = page.nextPageToken
    } while (pageToken !== '')
    return all
  })
  const own = read.data?.find((it) => it.repositoryId === repositoryId)
  const used = own ?? read.data?.find((it) => it.repositoryId === '' && it.origin === origin)
  const reason = repository.condition?.reason ?? ''
  // An API takes no deploy key.
  const wantedByApi = !origin.startsWith('ssh:') && WANTED_BY_API.has(repository.pullRequestSync?.stale?.reason ?? '')
  const wanted = WANTED.has(reason) || wantedByApi
  if (read.data === undefined) {
    if (read.error === undefined) return null
    return <ErrorState error={read.error} title="The credential could not be loaded" onRetry={read.reload} compact />
  }
  if (used === undefined && !wanted) return null
  const stored = () => {
    setAsks(undefined)
    read.reload()
  }
  return (
    <section className={classes.credential} aria-label="Credential">
      {used === undefined ? <p>{`No credential is stored for ${origin}.`}</p> : <Shown credential={used} />}
      {wanted && !frame.canAdminister && <p>An administrator of the organization can store one here.</p>}
      {frame.canAdminister && (
        <>
          {(wanted || asks === 'replace') && (
            <CredentialForm repository={repository} origin={origin} replaces={used !== undefined} onStored={stored} />
          )}
          <Group gap="xs">
            {used !== undefined && !wanted && asks !== 'replace' && (
              <Button variant="default" size="xs" leftSection={<IconKey size={14} />} onClick={() => setAsks('replace')}>
                Replace credential
              </Button>
            )}
            {used !== undefined && (
              <Button variant="default" size="xs" onClick={() => setAsks('remove')}>
                Remove credential
              </Button>
            )}
            {used !== undefined && reason === 'REPOSITORY_HOST_KEY_CHANGED' && <AcceptHostKey credential={used} onDone={stored} />}
          </Group>
        </>
      )}
      {asks === 'remove' && used !== undefined && <RemoveDialog credential={used} onClose={() => setAsks(undefined)} onRemoved={stored} />}
    </section>
  )
}

const kinds: Partial<Record<RepositoryCredentialKind, string>> = {
  [RepositoryCredentialKind.TOKEN]: 'A token',
  [RepositoryCredentialKind.BASIC]: 'A user name and a password',
  [RepositoryCredentialKind.SSH_KEY]: 'A deploy key',
  [RepositoryCredentialKind.GITHUB_APP]: 'A GitHub App',
}

function Shown({ credential }: { credential: RepositoryCredential }) {
  const { hint, kind, origin, repositoryId, publicKey, githubApp } = credential
  const key = kind === RepositoryCredentialKind.SSH_KEY
  const app = githubApp === undefined ? '' : ` (${githubApp.appId}, installation ${githubApp.installationId})`
  const shown = hint === '' ? app : key ? ` (${hint})` : ` (…${hint})`
  const scope = repositoryId === '' ? `for all repositories at ${origin}` : 'for this repository'
  return (
    <>
      <p>
        {visibleLine(`${kinds[kind] ?? 'A credential'}${shown} ${scope}`)}
        {credential.state === RepositoryCredentialState.FAILED && <span className={classes.reason}> refused</span>}
      </p>
      {publicKey !== '' && <p className="fd-mono fd-truncate">{visibleLine(publicKey)}</p>}
      {credential.hostKeys.map((it) => (
        <p key={it.publicKey} className="fd-muted">
          {visibleLine(`Host key ${it.fingerprint}, ${it.given ? 'given' : 'recorded on the first connection'}`)}
        </p>
      ))}
    </>
  )
}

function AcceptHostKey({ credential, onDone }: { credential: RepositoryCredential; onDone: () => void }) {
  const client = useFoundry()
  const { repositoryCredentialId } = credential
  const accept = useCommand(
    'The host key was not accepted',
    (requestId: string) => client.repo.testRepositoryCredential({ repositoryCredentialId, acceptHostKey: true, requestId }),
    true,
  )
  const send = async () => {
    if ((await accept.run()) !== undefined) onDone()
  }
  return (
    <Button variant="default" size="xs" onClick={() => void send()} loading={accept.busy}>
      Accept the new host key
    </Button>
  )
}

interface RemoveProps {
  credential: RepositoryCredential
  onClose: () => void
  onRemoved: () => void
}

function RemoveDialog({ credential, onClose, onRemoved }: RemoveProps) {
  const client = useFoundry()
  const { repositoryCredentialId, repositoryId, origin } = credential
  return (
    <RemovalDialog
      title="Remove the credential?"
      confirmLabel="Remove credential"
      failed="The credential was not removed"
      done="The credential was removed"
      remove={(requestId) => client.repo.deleteRepositoryCredential({ repositoryCredentialId, requestId })}
      onClose={onClose}
      onRemoved={onRemoved}
    >
      {repositoryId === ''
        ? `All repositories at ${visibleLine(origin)} without one of their own can no longer be synchronized.`
        : 'The repository can no longer be synchronized, unless there is one for its host.'}
    </RemovalDialog>
  )
}

import { Button, Group } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import type { RepositoryWebhook } from '@foundry/client/gen/foundry/repo/v1/webhook_pb'
import { RepositoryWebhookResult } from '@foundry/client/gen/foundry/repo/v1/webhook_pb'
import type { Repository } from '@foundry/client/gen/foundry/repo/v1/repo_pb'
import { IconWebhook } from '@tabler/icons-react'
import { useState } from 'react'
import { useFrame } from '../shell/frame'
import { RemovalDialog } from '../state/RemovalDialog'
import { useRead } from '../state/read'
import { ErrorState, RelativeTime } from '../ui'
import { visibleLine } from '../ui/text/visible'
import classes from './RepositoryPage.module.css'
import { hostOf } from './url'
import { WebhookForm } from './WebhookForm'
import { forges } from './webhookForges'

interface Props {
  repository: Repository
  /** Revision of the repository's topic; the webhooks are loaded again when it changes. */
  rev: bigint
}

/** The webhooks by which the host of a remote repository announces changes, and the form for another one. */
export function WebhookSection({ repository, rev }: Props) {
  const host = hostOf(repository.url)
  return host === undefined ? null : <OfHost repository={repository} rev={rev} host={host} />
}

function OfHost({ repository, rev, host }: Props & { host: string }) {
  const client = useFoundry()
  const frame = useFrame()
  const [adding, setAdding] = useState(false)
  const { organizationId, repositoryId } = repository
  const read = useRead(`webhooks ${repositoryId}@${rev}`, async (signal) => {
    const all: RepositoryWebhook[] = []
    let pageToken = ''
    do {
      const page = await client.repo.listRepositoryWebhooks({ organizationId, pageSize: 500, pageToken }, { signal })
      all.push(...page.repositoryWebhooks)
      pageToken = page.nextPageToken
    } while (pageToken !== '')
    return all
  })
  if (read.data === undefined) {
    if (read.error === undefined) return null
    return <ErrorState error={read.error} title="The webhooks could not be loaded" onRetry={read.reload} compact />
  }
  const own = read.data.filter((it) => it.repositoryId === repositoryId || (it.repositoryId === '' && it.host === host))
  if (own.length === 0 && !frame.canAdminister) return null
  return (
    <section className={classes.credential} aria-label="Webhooks">
      {own.length === 0 && !adding && <p className="fd-muted">Without a webhook, changes at the host are found by polling.</p>}
      {own.map((it) => (
        <Shown key={it.repositoryWebhookId} webhook={it} canRemove={frame.canAdminister} onRemoved={read.reload} />
      ))}
      {frame.canAdminister &&
        (adding ? (
          <WebhookForm repository={repository} host={host} onAdded={read.reload} onClose={() => setAdding(false)} />
        ) : (
          <Group>
            <Button variant="default" size="xs" leftSection={<IconWebhook size={14} />} onClick={() => setAdding(true)}>
              Add webhook
            </Button>
          </Group>
        ))}
    </section>
  )
}

const results: Partial<Record<RepositoryWebhookResult, string>> = {
  [RepositoryWebhookResult.BRANCHES]: 'branches were read again',
  [RepositoryWebhookResult.PULL_REQUESTS]: 'pull requests were read again',
  [RepositoryWebhookResult.PING]: 'a test of the host',
  [RepositoryWebhookResult.IGNORED]: 'nothing to do',
  [RepositoryWebhookResult.UNMATCHED]: 'about a repository that is not registered',
  [RepositoryWebhookResult.NOTED]: 'shown here',
  [RepositoryWebhookResult.UNREADABLE]: 'its content could not be read',
}

function counted(count: bigint): string {
  return count === 1n ? '1 delivery was' : `${count} deliveries were`
}

interface ShownProps {
  webhook: RepositoryWebhook
  canRemove: boolean
  onRemoved: () => void
}

function Shown({ webhook, canRemove, onRemoved }: ShownProps) {
  const [asks, setAsks] = useState(false)
  const { forge, repositoryId, host, lastDelivery, notice, refusals } = webhook
  const scope = repositoryId === '' ? `for all repositories at ${host}` : 'for this repository'
  return (
    <>
      <Group justify="space-between" gap="xs">
        <p>{visibleLine(`Webhook of ${forges[forge] ?? 'a host'} ${scope}`)}</p>
        {canRemove && (
          <Button variant="default" size="xs" onClick={() => setAsks(true)}>
            Remove webhook
          </Button>
        )}
      </Group>
      <p className="fd-muted">
        {lastDelivery === undefined ? (
          'No delivery has arrived yet.'
        ) : (
          <>
            {'Last delivery '}
            {lastDelivery.receiveTime !== undefined && <RelativeTime time={lastDelivery.receiveTime} ago />}
            {`: ${visibleLine(lastDelivery.event)}, ${results[lastDelivery.result] ?? 'received'}`}
          </>
        )}
      </p>
      {refusals !== undefined && (
        <div className={classes.condition} data-error role="status">
          <p>
            {`${counted(refusals.count)} refused: the secret at the host is another one, or a stranger has sent `}
            {refusals.count === 1n ? 'it' : 'them'}
            {'. The last came '}
            {refusals.lastTime !== undefined && <RelativeTime time={refusals.lastTime} ago />}
            {refusals.lastAddress !== '' && visibleLine(` from ${refusals.lastAddress}`)}
          </p>
          <p className="fd-muted">If it was the host, remove the webhook, add another one and enter its secret there.</p>
        </div>
      )}
      {notice !== undefined && notice.message !== '' && (
        <div className={classes.condition} data-error role="status">
          <p>{visibleLine(notice.message)}</p>
          <p className="fd-muted">{visibleLine(notice.nextAction)}</p>
        </div>
      )}
      {asks && <RemoveDialog webhook={webhook} onClose={() => setAsks(false)} onRemoved={onRemoved} />}
    </>
  )
}

interface RemoveProps {
  webhook: RepositoryWebhook
  onClose: () => void
  onRemoved: () => void
}

function RemoveDialog({ webhook, onClose, onRemoved }: RemoveProps) {
  const client = useFoundry()
  const { repositoryWebhookId } = webhook
  return (
    <RemovalDialog
      title="Remove the webhook?"
      confirmLabel="Remove webhook"
      failed="The webhook was not removed"
      done="The webhook was removed"
      remove={(requestId) => client.repo.deleteRepositoryWebhook({ repositoryWebhookId, requestId })}
      onClose={onClose}
      onRemoved={onRemoved}
    >
      Deliveries to its address are refused from then on, and changes at the host are found by polling. Remove it at the host, too.
    </RemovalDialog>
  )
}

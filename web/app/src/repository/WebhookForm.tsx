import { Button, Checkbox, Group, NativeSelect, Stack } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import type { RepositoryWebhookForge } from '@foundry/client/gen/foundry/repo/v1/webhook_pb'
import type { Repository } from '@foundry/client/gen/foundry/repo/v1/repo_pb'
import { useState, type SubmitEvent } from 'react'
import { useCommand } from '../state/command'
import { CopyButton, ErrorState } from '../ui'
import classes from './RepositoryPage.module.css'
import { forgeOf, forges } from './webhookForges'

interface Props {
  repository: Repository
  host: string
  onAdded: () => void
  onClose: () => void
}

/** Adds a webhook, and shows once what to enter at the host. */
export function WebhookForm({ repository, host, onAdded, onClose }: Props) {
  const client = useFoundry()
  const [forge, setForge] = useState(() => forgeOf(host))
  const [everywhere, setEverywhere] = useState(false)
  const [added, setAdded] = useState<{ address: string; secret: string }>()
  const { organizationId, repositoryId } = repository
  const add = useCommand('The webhook was not added', (requestId: string, all: boolean, software: RepositoryWebhookForge) =>
    client.repo.createRepositoryWebhook({
      requestId,
      organizationId,
      target: all ? { case: 'host', value: host } : { case: 'repositoryId', value: repositoryId },
      forge: software,
    }),
  )
  const send = async (event: SubmitEvent) => {
    event.preventDefault()
    const answer = await add.run(everywhere, forge)
    if (answer?.repositoryWebhook === undefined) return
    setAdded({ address: `${window.location.origin}${answer.repositoryWebhook.path}`, secret: answer.secret?.value ?? '' })
    onAdded()
  }
  if (added !== undefined) return <ToEnter {...added} onClose={onClose} />
  return (
    <form onSubmit={(event) => void send(event)} noValidate>
      <Stack gap="xs">
        <NativeSelect
          label="Software of the host"
          value={String(forge)}
          onChange={(event) => setForge(Number(event.currentTarget.value))}
          data={Object.entries(forges).map(([value, label]) => ({ value, label }))}
        />
        <Checkbox
          label={`Use it for all repositories of the organization at ${host}`}
          checked={everywhere}
          onChange={(event) => setEverywhere(event.currentTarget.checked)}
        />
        {add.error !== undefined && <ErrorState error={add.error} title="The webhook was not added" compact />}
        <Group gap="xs">
          <Button type="submit" size="xs" loading={add.busy}>
            Add webhook
          </Button>
          <Button variant="default" size="xs" onClick={onClose}>
            Cancel
          </Button>
        </Group>
      </Stack>
    </form>
  )
}

function ToEnter({ address, secret, onClose }: { address: string; secret: string; onClose: () => void }) {
  return (
    <Stack gap="xs">
      <p>Enter these at the host, with the content type application/json. The secret is not shown again.</p>
      <div className={classes.url}>
        <span>Address</span>
        <bdi className="fd-mono fd-truncate">{address}</bdi>
        <CopyButton value={address} label="Copy address" />
      </div>
      <div className={classes.url}>
        <span>Secret</span>
        <bdi className="fd-mono fd-truncate">{secret}</bdi>
        <CopyButton value={secret} label="Copy secret" />
      </div>
      <Group>
        <Button size="xs" variant="default" onClick={onClose}>
          Done
        </Button>
      </Group>
    </Stack>
  )
}

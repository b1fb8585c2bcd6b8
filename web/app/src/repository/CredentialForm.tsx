import { Button, Checkbox, Group, PasswordInput, Stack, Textarea, TextInput } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { RepositoryCredentialKind } from '@foundry/client/gen/foundry/repo/v1/credential_pb'
import type { Repository } from '@foundry/client/gen/foundry/repo/v1/repo_pb'
import { useState, type SubmitEvent } from 'react'
import { useCommand } from '../state/command'
import { ErrorState, sentence, toastDone } from '../ui'

interface Props {
  repository: Repository
  origin: string
  /** Whether one is stored already. */
  replaces: boolean
  onStored: () => void
}

interface Input {
  username: string
  secret: string
  everywhere: boolean
}

/** State of the form, and how it is sent. */
function useForm({ repository, origin, onStored }: Props) {
  const client = useFoundry()
  const [username, setUsername] = useState('')
  const [secret, setSecret] = useState('')
  const [everywhere, setEverywhere] = useState(false)
  const ssh = origin.startsWith('ssh:')
  const { organizationId, repositoryId } = repository
  const kind = ssh ? RepositoryCredentialKind.SSH_KEY : username === '' ? RepositoryCredentialKind.TOKEN : RepositoryCredentialKind.BASIC
  const store = useCommand('The credential was not stored', (requestId: string, it: Input) =>
    client.repo.createRepositoryCredential({
      requestId,
      organizationId,
      target: it.everywhere ? { case: 'host', value: origin } : { case: 'repositoryId', value: repositoryId },
      kind,
      username: it.username,
      secret: { value: it.secret },
      // The form says that it replaces one; an older one may also be for the other scope.
      replace: true,
    }),
  )
  const send = async (event: SubmitEvent) => {
    event.preventDefault()
    if (secret.trim() === '') return
    if ((await store.run({ username: username.trim(), secret: ssh ? secret : secret.trim(), everywhere })) === undefined) return
    setSecret('')
    toastDone('The credential was stored')
    onStored()
  }
  const refused = (field: string) => {
    const description = store.error?.fields.find((it) => it.field === field)?.description
    return description === undefined ? undefined : sentence(description)
  }
  const problems = { secret: refused('secret'), username: refused('username') }
  // A problem that is shown at a field is not repeated below.
  const failure = problems.secret === undefined && problems.username === undefined ? store.error : undefined
  return { ssh, username, setUsername, secret, setSecret, everywhere, setEverywhere, problems, failure, busy: store.busy, send }
}

/** Stores a credential for a repository or for all at its host. What is typed is sent once and never shown again. */
export function CredentialForm(props: Props) {
  const form = useForm(props)
  return (
    <form onSubmit={(event) => void form.send(event)} noValidate>
      <Stack gap="xs">
        {form.ssh ? (
          <Textarea
            label="Deploy key"
            description="A private key without a passphrase; its public half must be known to the host"
            placeholder="-----BEGIN OPENSSH PRIVATE KEY-----"
            autoComplete="off"
            spellCheck={false}
            autosize
            minRows={3}
            maxRows={6}
            value={form.secret}
            onChange={(event) => form.setSecret(event.currentTarget.value)}
            error={form.problems.secret}
          />
        ) : (
          <>
            <PasswordInput
              label="Token or password"
              autoComplete="off"
              value={form.secret}
              onChange={(event) => form.setSecret(event.currentTarget.value)}
              error={form.problems.secret}
            />
            <TextInput
              label="User name (optional for a token)"
              autoCapitalize="none"
              autoComplete="off"
              spellCheck={false}
              value={form.username}
              onChange={(event) => form.setUsername(event.currentTarget.value)}
              error={form.problems.username}
            />
          </>
        )}
        <Checkbox
          label={`Use it for all repositories of the organization at ${props.origin}`}
          checked={form.everywhere}
          onChange={(event) => form.setEverywhere(event.currentTarget.checked)}
        />
        {form.failure !== undefined && <ErrorState error={form.failure} title="The credential was not stored" compact />}
        <Group>
          <Button type="submit" size="xs" loading={form.busy} disabled={form.secret.trim() === ''}>
            {props.replaces ? 'Replace credential' : 'Store credential'}
          </Button>
        </Group>
      </Stack>
    </form>
  )
}

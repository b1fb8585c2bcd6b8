import { Button, Checkbox, Group, NativeSelect, PasswordInput, Stack, Textarea, TextInput } from '@mantine/core'
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
  app?: { appId: string; installationId: bigint }
}

/** State of the form, and how it is sent. */
function useForm({ repository, origin, onStored }: Props) {
  const client = useFoundry()
  const [username, setUsername] = useState('')
  const [secret, setSecret] = useState('')
  const [everywhere, setEverywhere] = useState(false)
  const [isApp, setIsApp] = useState(false)
  const [appId, setAppId] = useState('')
  const [installation, setInstallation] = useState('')
  const ssh = origin.startsWith('ssh:')
  const { organizationId, repositoryId } = repository
  const store = useCommand('The credential was not stored', (requestId: string, it: Input) =>
    client.repo.createRepositoryCredential({
      requestId,
      organizationId,
      target: it.everywhere ? { case: 'host', value: origin } : { case: 'repositoryId', value: repositoryId },
      kind: kindOf(ssh, it),
      username: it.username,
      secret: { value: it.secret },
      githubApp: it.app,
      // The form says that it replaces one; an older one may also be for the other scope.
      replace: true,
    }),
  )
  const send = async (event: SubmitEvent) => {
    event.preventDefault()
    if (secret.trim() === '') return
    const input = isApp
      ? { username: '', secret, everywhere, app: { appId: appId.trim(), installationId: numberOf(installation) } }
      : { username: username.trim(), secret: ssh ? secret : secret.trim(), everywhere }
    if ((await store.run(input)) === undefined) return
    setSecret('')
    toastDone('The credential was stored')
    onStored()
  }
  const refused = (field: string) => {
    const description = store.error?.fields.find((it) => it.field === field)?.description
    return description === undefined ? undefined : sentence(description)
  }
  const problems = {
    secret: refused('secret'),
    username: refused('username'),
    appId: refused('github_app.app_id') ?? refused('github_app'),
    installation: refused('github_app.installation_id'),
  }
  // A problem that is shown at a field is not repeated below.
  const failure = Object.values(problems).every((it) => it === undefined) ? store.error : undefined
  const app = { isApp, setIsApp, appId, setAppId, installation, setInstallation }
  return { ssh, app, username, setUsername, secret, setSecret, everywhere, setEverywhere, problems, failure, busy: store.busy, send }
}

function kindOf(ssh: boolean, it: Input): RepositoryCredentialKind {
  if (ssh) return RepositoryCredentialKind.SSH_KEY
  if (it.app !== undefined) return RepositoryCredentialKind.GITHUB_APP
  return it.username === '' ? RepositoryCredentialKind.TOKEN : RepositoryCredentialKind.BASIC
}

/** What is no number is sent as 0, which is refused with a text for the field. */
function numberOf(text: string): bigint {
  return /^\d{1,18}$/.test(text.trim()) ? BigInt(text.trim()) : 0n
}

type Form = ReturnType<typeof useForm>

/** The ids of a GitHub App, and its key. */
function AppFields({ form }: { form: Form }) {
  const { app, problems } = form
  return (
    <>
      <TextInput
        label="Id or client id of the app"
        autoComplete="off"
        spellCheck={false}
        value={app.appId}
        onChange={(event) => app.setAppId(event.currentTarget.value)}
        error={problems.appId}
      />
      <TextInput
        label="Installation"
        description="The number at the end of the address of its settings"
        inputMode="numeric"
        autoComplete="off"
        value={app.installation}
        onChange={(event) => app.setInstallation(event.currentTarget.value)}
        error={problems.installation}
      />
      <Textarea
        label="Private key of the app"
        placeholder="-----BEGIN RSA PRIVATE KEY-----"
        autoComplete="off"
        spellCheck={false}
        autosize
        minRows={3}
        maxRows={6}
        value={form.secret}
        onChange={(event) => form.setSecret(event.currentTarget.value)}
        error={problems.secret}
      />
    </>
  )
}

/** Stores a credential for a repository or for all at its host. What is typed is sent once and never shown again. */
export function CredentialForm(props: Props) {
  const form = useForm(props)
  return (
    <form onSubmit={(event) => void form.send(event)} noValidate>
      <Stack gap="xs">
        {!form.ssh && (
          <NativeSelect
            label="Kind"
            value={form.app.isApp ? 'app' : 'token'}
            onChange={(event) => form.app.setIsApp(event.currentTarget.value === 'app')}
            data={[
              { value: 'token', label: 'Token or password' },
              { value: 'app', label: 'GitHub App' },
            ]}
          />
        )}
        {form.app.isApp ? (
          <AppFields form={form} />
        ) : form.ssh ? (
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

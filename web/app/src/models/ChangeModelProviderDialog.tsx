import { Button, Group, Modal, PasswordInput, Stack, TextInput } from '@mantine/core'
import type { ModelProvider } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { useState, type FormEvent } from 'react'
import { useCommand } from '../state/command'
import { useProfileCalls } from '../state/profiles'
import { useAlive } from '../task/model/useCommand'
import { visibleLine } from '../task/text/visible'
import { ErrorState, toastDone } from '../ui'
import { refusals } from './refusals'
import { useKey } from './useKey'
import { addressProblem, keyText, modelNames } from './words'

interface Props {
  provider: ModelProvider
  onClose: () => void
  onChanged: () => void
}

interface Input {
  baseUrl: string
  models: string[]
  /** The fields that are changed. */
  paths: string[]
  /** Counts the keys that were sent, so that another key is another request. */
  attempt: number
}

/** What the dialog holds and how it is sent: only what was changed. */
function useChange({ provider, onClose, onChanged }: Props) {
  const calls = useProfileCalls()
  const { modelProviderId, rev } = provider
  const [url, setUrl] = useState(provider.baseUrl)
  const [models, setModels] = useState(provider.models.join(', '))
  const [problems, setProblems] = useState<Record<string, string | undefined>>({})
  const key = useKey()
  const alive = useAlive()
  const change = useCommand(({ attempt: _, paths, ...settings }: Input, requestId) => {
    const secret = { case: 'key' as const, value: { value: key.key.current } }
    const credential = key.key.current === '' ? undefined : { secret }
    return calls.updateModelProvider({ requestId, modelProviderId, expectedRev: rev, settings: { ...settings, credential }, updateMask: { paths } })
  }, 'The model provider was not changed')
  const send = async (event: FormEvent) => {
    event.preventDefault()
    if (change.busy) return
    const isGiven = key.isGiven()
    const found = { url: addressProblem(url), key: key.wasSent && !isGiven ? 'Enter the key again: it was not kept.' : undefined }
    setProblems(found)
    if (Object.values(found).some((it) => it !== undefined)) return
    const names = modelNames(models)
    const paths = [
      ...(url.trim() === provider.baseUrl ? [] : ['base_url']),
      ...(names.join() === provider.models.join() ? [] : ['models']),
      ...(isGiven ? ['credential'] : []),
    ]
    if (paths.length === 0) return onClose()
    const attempt = key.take()
    const answer = await change.run({ baseUrl: url.trim(), models: names, paths, attempt })
    key.forget()
    if (answer === undefined) return
    toastDone('The model provider was changed', visibleLine(provider.name))
    onChanged()
    if (alive.current) onClose()
  }
  return { url, setUrl, models, setModels, problems, key, change, send }
}

/** Changes a model provider. Its key is never shown; an empty field keeps it. */
export function ChangeModelProviderDialog(props: Props) {
  const { url, setUrl, models, setModels, problems, key, change, send } = useChange(props)
  const { at, rest } = refusals(change.error, ['base_url', 'credential', 'models'])
  const plain = { autoCapitalize: 'none', autoComplete: 'off', spellCheck: false }
  return (
    <Modal opened onClose={props.onClose} title={`Change ${visibleLine(props.provider.name)}`}>
      <form onSubmit={(event) => void send(event)} noValidate>
        <Stack gap="sm">
          <TextInput
            {...plain}
            label="Address"
            data-autofocus
            value={url}
            onChange={(event) => setUrl(event.currentTarget.value)}
            error={problems.url ?? at.base_url}
          />
          <PasswordInput
            ref={key.field}
            label="New key"
            description={`Empty keeps the one that is there (${keyText(props.provider)}); an address of another server needs it again. Kept encrypted and never shown.`}
            autoComplete="off"
            spellCheck={false}
            error={problems.key ?? at.credential}
            visibilityToggleButtonProps={{ 'aria-label': 'Show the key' }}
          />
          <TextInput
            {...plain}
            label="Models (optional)"
            description="Names of those that may be used, separated by commas; empty = any"
            value={models}
            onChange={(event) => setModels(event.currentTarget.value)}
            error={at.models}
          />
          {rest !== undefined && <ErrorState error={rest} title="The model provider was not changed" compact />}
        </Stack>
        <Group justify="flex-end" gap="xs" mt="lg">
          <Button variant="default" size="sm" onClick={props.onClose}>
            Cancel
          </Button>
          <Button type="submit" size="sm" loading={change.busy}>
            Change model provider
          </Button>
        </Group>
      </form>
    </Modal>
  )
}

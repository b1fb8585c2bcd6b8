import { Button, Group, Modal, Stack, TextInput } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { useState, type SubmitEvent } from 'react'
import { useLocation } from 'wouter'
import { paths } from '../app/paths'
import { useCommand } from '../state/command'
import { useOrganization } from '../state/organization'
import { useAlive } from '../ui/useAlive'
import { ErrorState, sentence, toastDone } from '../ui'
import { nameFromUrl, urlProblem } from './url'

/** State of the dialog, and how it is sent. */
function useAddRepository(onClose: () => void) {
  const client = useFoundry()
  const { organizationId } = useOrganization()
  const [, navigate] = useLocation()
  const [url, setUrl] = useState('')
  const [name, setName] = useState('')
  const [tried, setTried] = useState(false)
  const add = useCommand('The repository was not added', (requestId: string, it: { url: string; name: string }) =>
    client.repo.createRepository({ ...it, organizationId, requestId }),
  )
  const alive = useAlive()
  const problem = urlProblem(url)
  const refused = (field: string) => asSentence(add.error?.fields.find((it) => it.field === field)?.description)
  const send = async (event: SubmitEvent) => {
    event.preventDefault()
    setTried(true)
    if (problem !== undefined) return
    const answer = await add.run({ url: url.trim(), name: name.trim() })
    if (answer?.repository === undefined) return
    if (!alive.current) return toastDone('The repository was added')
    onClose()
    navigate(paths.repository(organizationId, answer.repository.repositoryId))
  }
  const problems = { url: (tried ? problem : undefined) ?? refused('url'), name: refused('name') }
  // A problem that is shown at a field is not repeated below.
  const failure = add.error !== undefined && refused('url') === undefined && refused('name') === undefined ? add.error : undefined
  return { url, setUrl, name, setName, problems, add, failure, send }
}

function asSentence(description: string | undefined): string | undefined {
  return description === undefined ? undefined : sentence(description)
}

/** Registers a repository; its page opens at once and shows the progress of the mirror. */
export function AddRepositoryDialog({ onClose }: { onClose: () => void }) {
  const { url, setUrl, name, setName, problems, add, failure, send } = useAddRepository(onClose)
  return (
    <Modal opened onClose={onClose} title="Add repository">
      <form onSubmit={(event) => void send(event)} noValidate>
        <Stack gap="sm">
          <TextInput
            label="URL"
            description="https or ssh URL, or an absolute local path if the mesh allows it"
            placeholder="https://…/project.git"
            autoCapitalize="none"
            autoComplete="off"
            spellCheck={false}
            data-autofocus
            value={url}
            onChange={(event) => setUrl(event.currentTarget.value)}
            error={problems.url}
          />
          <TextInput
            label="Name (optional)"
            placeholder={nameFromUrl(url) || 'Last part of the URL'}
            maxLength={100}
            spellCheck={false}
            value={name}
            onChange={(event) => setName(event.currentTarget.value)}
            error={problems.name}
          />
          {failure !== undefined && <ErrorState error={failure} title="The repository was not added" compact />}
        </Stack>
        <Group justify="flex-end" gap="xs" mt="lg">
          <Button variant="default" size="sm" onClick={onClose}>
            Cancel
          </Button>
          <Button type="submit" size="sm" loading={add.busy}>
            Add repository
          </Button>
        </Group>
      </form>
    </Modal>
  )
}

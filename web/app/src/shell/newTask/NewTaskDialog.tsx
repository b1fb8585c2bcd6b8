import { Button, Group, Modal, Stack, TextInput } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import type { PermissionPolicy } from '@foundry/client/gen/foundry/common/v1/transcript_pb'
import { useState, type KeyboardEvent, type SubmitEvent } from 'react'
import { useLocation } from 'wouter'
import { paths } from '../../app/paths'
import { AttachButton, UploadList, useUploads } from '../../attachments'
import { useCommand } from '../../state/command'
import { useOrganization } from '../../state/organization'
import { useAgentProfiles } from '../../state/profiles'
import { useShell } from '../../state/shell'
import { useDraft } from '../../state/useDraft'
import { useAlive } from '../../ui/useAlive'
import { EmptyState, ErrorState, Kbd, toastDone, useNarrow } from '../../ui'
import { useFrame } from '../frame'
import { agentOf, policyOf, profileOf, promptProblem } from './choices'
import classes from './NewTaskDialog.module.css'
import { BranchField } from './BranchField'
import { AgentField, PolicyField, PromptField, ProviderField, RepositoryField } from './fields'
import { initialRepository, rememberRepository } from './lastRepository'
import { noSettings, SettingsFields, type AgentSettings } from './SettingsFields'

/** The choices besides the prompt; null = the service's default. */
interface Choices {
  title: string
  baseBranch: string | null
  /** The branch of the remote to work on, empty until one is chosen; null = a new branch. */
  onBranch: string | null
  /** A profile or an agent, as a value of its field. */
  agent: string | null
  provider: string | null
  policy: PermissionPolicy | null
  settings: AgentSettings
}

const defaults: Choices = { title: '', baseBranch: null, onBranch: null, agent: null, provider: null, policy: null, settings: noSettings }

interface OpenedProps {
  repositoryId?: string
  /** The branch of that repository to work on, if it is chosen already. */
  onBranch?: string
  onClose: () => void
}

/** A form for repository and prompt that creates a task; its page opens at once. */
export function NewTaskDialog(props: OpenedProps) {
  const { canWrite } = useFrame()
  const known = useShell().user !== undefined
  // Until the repositories are loaded there is nothing to choose from.
  if (useOrganization().phase === 'loading' || !known) return null
  if (canWrite) return <Known {...props} />
  return (
    <Modal opened onClose={props.onClose} title="New task">
      Viewers cannot create tasks; members of the organization can.
    </Modal>
  )
}

function Known({ repositoryId, onBranch, onClose }: OpenedProps) {
  const { repositories, organizationId } = useOrganization()
  const frame = useFrame()
  const narrow = useNarrow()
  const [chosen, setChosen] = useState(() => repositoryId ?? initialRepository(organizationId, repositories))
  if (repositories.length === 0) {
    return (
      <Modal opened onClose={onClose} title="New task">
        <EmptyState level={3} title="Add a repository first" actions={<Button onClick={frame.addRepository}>Add repository</Button>}>
          A task works on a branch of a repository.
        </EmptyState>
      </Modal>
    )
  }
  const known = repositories.some((it) => it.repositoryId === chosen) ? chosen : repositories[0]?.repositoryId
  return (
    <Modal opened onClose={onClose} title="New task" size="lg" fullScreen={narrow}>
      <NewTaskForm repositoryId={known ?? ''} onBranch={onBranch ?? null} onRepository={setChosen} onClose={onClose} />
    </Modal>
  )
}

interface FormProps {
  repositoryId: string
  onBranch: string | null
  onRepository: (repositoryId: string) => void
  onClose: () => void
}

interface Sent {
  prompt: string
  attachmentIds: readonly string[]
  choices: Choices
  /** Id of a profile; empty = an agent alone, or the service's default. */
  profile: string
  policy: PermissionPolicy
}

function useCreate(organizationId: string, repositoryId: string) {
  const client = useFoundry()
  return useCommand('The task was not created', (requestId: string, { prompt, attachmentIds, choices, profile, policy }: Sent) =>
    client.task.createTask({
      requestId,
      organizationId,
      repositoryId,
      prompt,
      title: choices.title.trim(),
      baseBranch: choices.onBranch === null ? (choices.baseBranch ?? '') : '',
      onBranch: choices.onBranch ?? '',
      agent: agentOf(choices.agent),
      profile,
      provider: choices.provider ?? '',
      permissionPolicy: policy,
      settings: choices.settings,
      attachmentIds: [...attachmentIds],
    }),
  )
}

/** State of the form, and how it is sent. */
function useNewTask({ repositoryId, onBranch, onClose }: FormProps) {
  const { organizationId } = useOrganization()
  const [, navigate] = useLocation()
  const userId = useShell().user?.userId
  const { draft, text } = useDraft(organizationId, `new_task/${repositoryId}`, { userId, moves: true })
  const [choices, setChoices] = useState<Choices>({ ...defaults, onBranch })
  const [tried, setTried] = useState(false)
  const create = useCreate(organizationId, repositoryId)
  const profiles = useAgentProfiles(organizationId)
  const profile = profileOf(choices.agent, profiles.data ?? [])
  const policy = policyOf(choices.policy, profile)
  const problem = promptProblem(text)
  const lacksBranch = choices.onBranch === ''
  const field = useUploads(organizationId)
  const alive = useAlive()
  const send = async () => {
    setTried(true)
    const attachmentIds = field.ids
    if (problem !== undefined || lacksBranch || attachmentIds === undefined) return
    const answer = await create.run({ prompt: text, attachmentIds, choices, profile: profile?.profileId ?? '', policy })
    if (answer?.task === undefined) return
    // Text that was typed after it was sent stays.
    draft.sent(text)
    rememberRepository(organizationId, repositoryId)
    if (!alive.current) return toastDone('The task was created')
    onClose()
    navigate(paths.task(organizationId, answer.task.taskId))
  }
  const set = (change: Partial<Choices>) => setChoices((before) => ({ ...before, ...change }))
  const problems = tried ? { prompt: problem, branch: lacksBranch ? 'Choose the branch to work on' : undefined } : {}
  return { draft, text, field, choices, policy, profiles, set, problems, create, send }
}

function NewTaskForm(props: FormProps) {
  const { repositoryId, onRepository, onClose } = props
  const { draft, text, field, choices, policy, profiles, set, problems, create, send } = useNewTask(props)
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    void send()
  }
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return
    event.preventDefault()
    void send()
  }
  const chooseRepository = (it: string) => {
    onRepository(it)
    set({ baseBranch: null, onBranch: choices.onBranch === null ? null : '' })
  }
  return (
    <form onSubmit={submit} onKeyDown={onKeyDown} noValidate>
      <Stack gap="sm">
        <RepositoryField value={repositoryId} onChange={chooseRepository} />
        <div className={classes.prompt} {...field.target}>
          <PromptField text={text} onType={(typed) => draft.edit(typed)} problem={problems.prompt} />
          <UploadList field={field} />
          <AttachButton field={field} />
        </div>
        <TextInput
          label="Title (optional)"
          placeholder="Derived from the prompt"
          maxLength={120}
          value={choices.title}
          onChange={(event) => set({ title: event.currentTarget.value })}
        />
        <div className={classes.pair}>
          <BranchField
            key={repositoryId}
            repositoryId={repositoryId}
            base={choices.baseBranch}
            onBase={(baseBranch) => set({ baseBranch })}
            existing={choices.onBranch}
            onExisting={(onBranch) => set({ onBranch })}
            problem={problems.branch}
          />
          <AgentField profiles={profiles} value={choices.agent} onChange={(agent) => set({ agent })} />
        </div>
        <div className={classes.pair}>
          <PolicyField value={policy} onChange={(it) => set({ policy: it })} />
          <ProviderField value={choices.provider} onChange={(provider) => set({ provider })} />
        </div>
        <SettingsFields value={choices.settings} onChange={(settings) => set({ settings })} />
        {create.error !== undefined && (
          <div ref={bringIntoView} className={classes.failure}>
            <ErrorState error={create.error} title="The task was not created" compact />
          </div>
        )}
      </Stack>
      <Group justify="flex-end" gap="xs" className={classes.foot}>
        <Button variant="default" size="sm" onClick={onClose}>
          Cancel
        </Button>
        <Button
          type="submit"
          size="sm"
          loading={create.busy}
          disabled={field.ids === undefined}
          rightSection={<Kbd keys="mod+Enter" />}
          classNames={{ section: classes.keys }}
        >
          {create.error === undefined ? 'Create task' : 'Try again'}
        </Button>
      </Group>
    </form>
  )
}

/** In a small window, a failure below the fields would be hidden behind the buttons. */
function bringIntoView(failure: HTMLElement | null): void {
  // Without a layout there is nothing to scroll.
  failure?.scrollIntoView?.({ block: 'nearest' })
}

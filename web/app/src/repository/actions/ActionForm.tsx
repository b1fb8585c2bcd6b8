import { Button, Checkbox, Group, Modal, NativeSelect, Stack, TextInput } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { JobBranchState, JobKind, JobState } from '@foundry/client/gen/foundry/repo/v1/job_pb'
import type { BranchOverview, Repository } from '@foundry/client/gen/foundry/repo/v1/repo_pb'
import { useState } from 'react'
import { useLocation } from 'wouter'
import { paths } from '../../app/paths'
import { useFrame } from '../../shell/frame'
import { useCommand } from '../../state/command'
import { useOrganization } from '../../state/organization'
import { useAuthor } from '../../task/publish/useAuthor'
import { ErrorState } from '../../ui'
import { counted } from '../../ui/text/size'
import { visibleLine } from '../../ui/text/visible'
import { ActionJob } from './ActionJob'
import { useActionJobs } from './useActionJobs'
import { inState, isOpen, pushes } from './words'

/** Earlier actions that are shown. */
const EARLIER = 5

interface Props {
  repository: Repository
  /** All branches of the repository. */
  branches: readonly BranchOverview[]
  /** The branch that the action is about; empty for all stacks. */
  branch: string
  onClose: () => void
}

/** Plans an action on branches, shows the plan, pushes it when that is wanted, and undoes earlier ones. */
function ActionForm(props: Props) {
  const title = props.branch === '' ? 'Actions on all branches' : `Actions on ${visibleLine(props.branch)}`
  return (
    <Modal opened onClose={props.onClose} title={title} size="lg">
      <Form {...props} />
    </Modal>
  )
}

/** Actions on one branch. */
const ON_BRANCH = [
  { value: String(JobKind.RESTACK_SUBTREE), label: 'Restack: bring it and all above it onto their parents' },
  { value: String(JobKind.REBASE_BRANCH), label: 'Rebase: bring only this branch onto its parent, or onto another branch' },
  { value: String(JobKind.REPARENT_BRANCH), label: 'Change the parent, and bring it and all above it there' },
]

/** Actions on the repository. */
const ON_ALL = [
  { value: String(JobKind.RESTACK_REPO), label: 'Restack all stacks' },
  { value: String(JobKind.SYNC_REPO), label: 'Synchronize, and take the parents that git-spice has recorded' },
  { value: String(JobKind.REGISTER_EXISTING_BRANCH), label: 'Register a branch that was pushed just now' },
]

/** The parent to start from when a kind is chosen; empty = the one that the branch has. */
function firstParent(kind: JobKind, repository: Repository): string {
  return kind === JobKind.REPARENT_BRANCH ? repository.defaultBranch : ''
}

function useAction({ repository, branch }: Props) {
  const client = useFoundry()
  const author = useAuthor()
  const [kind, setKind] = useState(branch === '' ? JobKind.RESTACK_REPO : JobKind.RESTACK_SUBTREE)
  const [parent, setParent] = useState('')
  const [pushed, setPushed] = useState('')
  const [dropSignatures, setDropSignatures] = useState(false)
  const [planId, setPlanId] = useState('')
  const [runId, setRunId] = useState('')
  const jobs = useActionJobs(repository)
  const action = useCommand('The action was not started', (requestId: string, planJobId: string, planOnly: boolean) =>
    client.repo.runRepositoryAction({
      requestId,
      repositoryId: repository.repositoryId,
      kind,
      branch: kind === JobKind.REGISTER_EXISTING_BRANCH ? pushed.trim() : branch,
      parent,
      planOnly,
      planJobId,
      dropSignatures,
      committerName: author.name,
      committerEmail: author.email,
    }),
  )
  const plan = async () => {
    setRunId('')
    setPlanId('')
    const made = await action.run('', true)
    setPlanId(made?.job?.jobId ?? '')
  }
  const push = async () => {
    const made = await action.run(planId, false)
    setRunId(made?.job?.jobId ?? '')
  }
  /** What was planned is of other input. */
  const change = (set: () => void) => {
    set()
    setPlanId('')
    setRunId('')
  }
  const shown = jobs.find((job) => job.jobId === (runId === '' ? planId : runId))
  const choose = (next: JobKind) =>
    change(() => {
      setKind(next)
      setParent(firstParent(next, repository))
    })
  return {
    kind,
    choose,
    parent,
    setParent,
    pushed,
    setPushed,
    dropSignatures,
    setDropSignatures,
    planId,
    runId,
    jobs,
    action,
    plan,
    push,
    change,
    shown,
  }
}

function Form(props: Props) {
  const { repository, branches, branch, onClose } = props
  const it = useAction(props)
  const { shown, action, change } = it
  const busy = action.busy || (shown !== undefined && isOpen(shown))
  const planned = it.runId === '' && shown?.state === JobState.DONE ? inState(shown, JobBranchState.PLANNED) : 0
  const parents = branches.filter((b) => b.name !== branch && !b.workOnly).map((b) => b.name)
  const owners = new Map(branches.map(({ name, taskId }) => [name, taskId]))
  const earlier = it.jobs.filter((job) => job !== shown && job.action?.planOnly === false).slice(0, EARLIER)
  return (
    <>
      <Stack gap="sm">
        <NativeSelect
          label="Action"
          data={branch === '' ? ON_ALL : ON_BRANCH}
          value={String(it.kind)}
          onChange={(event) => it.choose(Number(event.currentTarget.value) as JobKind)}
        />
        {it.kind === JobKind.REGISTER_EXISTING_BRANCH && (
          <TextInput
            label="Branch"
            description="Its name at the remote, without refs/heads/"
            value={it.pushed}
            onChange={(event) => {
              const name = event.currentTarget.value
              change(() => it.setPushed(name))
            }}
          />
        )}
        {hasParent.has(it.kind) && (
          <NativeSelect
            label={it.kind === JobKind.REBASE_BRANCH ? 'Onto' : it.kind === JobKind.REPARENT_BRANCH ? 'New parent' : 'Parent'}
            data={[...own(it.kind), ...parents.map((value) => ({ value, label: visibleLine(value) }))]}
            value={it.parent}
            onChange={(event) => {
              const parent = event.currentTarget.value
              change(() => it.setParent(parent))
            }}
          />
        )}
        {pushes(it.kind) && (
          <Signatures repository={repository} drop={it.dropSignatures} onDrop={(drop) => change(() => it.setDropSignatures(drop))} />
        )}
        {action.error !== undefined && <ErrorState error={action.error} title="The action was not started" compact />}
        {shown !== undefined && <ActionJob job={shown} label={it.runId === '' ? 'Plan' : 'Action'} owners={owners} />}
        {earlier.map((job, at) => (
          <ActionJob key={job.jobId} job={job} label={`Earlier action ${at + 1}`} />
        ))}
      </Stack>
      <Group justify="flex-end" gap="xs" mt="lg">
        {branch !== '' && <TaskOnBranch {...props} />}
        <Button variant="default" size="sm" onClick={onClose}>
          Close
        </Button>
        {pushes(it.kind) ? <PlanAndPush it={it} planned={planned} busy={busy} /> : <Start it={it} busy={busy} />}
      </Group>
    </>
  )
}

/** Kinds that take a parent. */
const hasParent: ReadonlySet<JobKind> = new Set([JobKind.REPARENT_BRANCH, JobKind.REBASE_BRANCH, JobKind.REGISTER_EXISTING_BRANCH])

/** The choice that leaves the parent to the service; a new parent has to be named. */
function own(kind: JobKind): { value: string; label: string }[] {
  if (kind === JobKind.REPARENT_BRANCH) return []
  return [{ value: '', label: kind === JobKind.REBASE_BRANCH ? 'Its parent' : 'By its commits' }]
}

interface SignaturesProps {
  repository: Repository
  drop: boolean
  onDrop: (drop: boolean) => void
}

function Signatures({ repository, drop, onDrop }: SignaturesProps) {
  return (
    <>
      <Checkbox
        label="Make signed commits again without their signatures"
        checked={drop}
        onChange={(event) => onDrop(event.currentTarget.checked)}
      />
      <p className="fd-muted" style={{ margin: 0 }}>
        Commits keep their authors, and you become their committer. What is merged is left out. The default branch{' '}
        {visibleLine(repository.defaultBranch)} is never changed, and after a conflict nothing is.
      </p>
    </>
  )
}

interface ButtonsProps {
  it: ReturnType<typeof useAction>
  busy: boolean
}

function PlanAndPush({ it, planned, busy }: ButtonsProps & { planned: number }) {
  return (
    <>
      <Button variant={planned > 0 ? 'default' : 'filled'} size="sm" loading={busy && it.runId === ''} onClick={() => void it.plan()}>
        Show plan
      </Button>
      {(planned > 0 || it.runId !== '') && (
        <Button size="sm" loading={busy} disabled={planned === 0} onClick={() => void it.push()}>
          {planned > 0 ? `Push ${counted(planned, 'branch', 'branches')}` : 'Pushed'}
        </Button>
      )}
    </>
  )
}

/** For what changes nothing at the remote. */
function Start({ it, busy }: ButtonsProps) {
  const incomplete = it.kind === JobKind.REGISTER_EXISTING_BRANCH && it.pushed.trim() === ''
  return (
    <Button size="sm" loading={busy} disabled={incomplete} onClick={() => void it.push()}>
      {it.kind === JobKind.SYNC_REPO ? 'Synchronize' : 'Register'}
    </Button>
  )
}

/** The open task on the branch, or the dialog for one. */
function TaskOnBranch({ repository, branch, onClose }: Props) {
  const { organizationId, tasks } = useOrganization()
  const frame = useFrame()
  const [, navigate] = useLocation()
  const { repositoryId } = repository
  const open = tasks.find((task) => task.repositoryId === repositoryId && task.branch === branch)
  const go = () => {
    onClose()
    if (open === undefined) frame.newTask(repositoryId, branch)
    else navigate(paths.task(organizationId, open.taskId))
  }
  return (
    <Button variant="subtle" size="sm" mr="auto" onClick={go}>
      {open === undefined ? 'Start a task on this branch' : 'Open its task'}
    </Button>
  )
}

export default ActionForm

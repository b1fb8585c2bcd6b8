import { Button, Checkbox, Group, Modal, NativeSelect, Stack } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { JobBranchState, JobKind, JobState } from '@foundry/client/gen/foundry/repo/v1/job_pb'
import type { BranchOverview, Repository } from '@foundry/client/gen/foundry/repo/v1/repo_pb'
import { useState } from 'react'
import { useCommand } from '../../state/command'
import { useAuthor } from '../../task/publish/useAuthor'
import { ErrorState } from '../../ui'
import { counted } from '../../ui/text/size'
import { visibleLine } from '../../ui/text/visible'
import { ActionJob } from './ActionJob'
import { useActionJobs } from './useActionJobs'
import { inState, isOpen } from './words'

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
  const title = props.branch === '' ? 'Restack all stacks' : `Actions on ${visibleLine(props.branch)}`
  return (
    <Modal opened onClose={props.onClose} title={title} size="lg">
      <Form {...props} />
    </Modal>
  )
}

const KINDS = [
  { value: String(JobKind.RESTACK_SUBTREE), label: 'Restack: bring it and all above it onto their parents' },
  { value: String(JobKind.REBASE_BRANCH), label: 'Rebase: bring only this branch onto its parent' },
  { value: String(JobKind.REPARENT_BRANCH), label: 'Change the parent, and bring it and all above it there' },
]

function useAction({ repository, branch }: Props) {
  const client = useFoundry()
  const author = useAuthor()
  const [kind, setKind] = useState(branch === '' ? JobKind.RESTACK_REPO : JobKind.RESTACK_SUBTREE)
  const [parent, setParent] = useState(repository.defaultBranch)
  const [dropSignatures, setDropSignatures] = useState(false)
  const [planId, setPlanId] = useState('')
  const [runId, setRunId] = useState('')
  const jobs = useActionJobs(repository)
  const action = useCommand('The action was not started', (requestId: string, planJobId: string, planOnly: boolean) =>
    client.repo.runRepositoryAction({
      requestId,
      repositoryId: repository.repositoryId,
      kind,
      branch,
      parent: kind === JobKind.REPARENT_BRANCH ? parent : '',
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
  return { kind, setKind, parent, setParent, dropSignatures, setDropSignatures, planId, runId, jobs, action, plan, push, change, shown }
}

function Form(props: Props) {
  const { repository, branches, branch, onClose } = props
  const it = useAction(props)
  const { shown, action, change } = it
  const busy = action.busy || (shown !== undefined && isOpen(shown))
  const planned = it.runId === '' && shown?.state === JobState.DONE ? inState(shown, JobBranchState.PLANNED) : 0
  const parents = branches.filter((b) => b.name !== branch && !b.workOnly).map((b) => b.name)
  const earlier = it.jobs.filter((job) => job !== shown && job.action?.planOnly === false).slice(0, EARLIER)
  return (
    <>
      <Stack gap="sm">
        {branch !== '' && (
          <NativeSelect
            label="Action"
            data={KINDS}
            value={String(it.kind)}
            onChange={(event) => {
              const kind = Number(event.currentTarget.value) as JobKind
              change(() => it.setKind(kind))
            }}
          />
        )}
        {it.kind === JobKind.REPARENT_BRANCH && (
          <NativeSelect
            label="New parent"
            data={parents.map((value) => ({ value, label: visibleLine(value) }))}
            value={it.parent}
            onChange={(event) => {
              const parent = event.currentTarget.value
              change(() => it.setParent(parent))
            }}
          />
        )}
        <Checkbox
          label="Make signed commits again without their signatures"
          checked={it.dropSignatures}
          onChange={(event) => {
            const drop = event.currentTarget.checked
            change(() => it.setDropSignatures(drop))
          }}
        />
        <p className="fd-muted" style={{ margin: 0 }}>
          Commits keep their authors, and you become their committer. What is merged is left out. The default branch{' '}
          {visibleLine(repository.defaultBranch)} is never changed, and after a conflict nothing is.
        </p>
        {action.error !== undefined && <ErrorState error={action.error} title="The action was not started" compact />}
        {shown !== undefined && <ActionJob job={shown} label={it.runId === '' ? 'Plan' : 'Action'} />}
        {earlier.map((job, at) => (
          <ActionJob key={job.jobId} job={job} label={`Earlier action ${at + 1}`} />
        ))}
      </Stack>
      <Group justify="flex-end" gap="xs" mt="lg">
        <Button variant="default" size="sm" onClick={onClose}>
          Close
        </Button>
        <Button variant={planned > 0 ? 'default' : 'filled'} size="sm" loading={busy && it.runId === ''} onClick={() => void it.plan()}>
          Show plan
        </Button>
        {(planned > 0 || it.runId !== '') && (
          <Button size="sm" loading={busy} disabled={planned === 0} onClick={() => void it.push()}>
            {planned > 0 ? `Push ${counted(planned, 'branch', 'branches')}` : 'Pushed'}
          </Button>
        )}
      </Group>
    </>
  )
}

export default ActionForm

import { Button, Loader } from '@mantine/core'
import { FoundryError } from '@foundry/client'
import { useFoundry } from '@foundry/client/react'
import { JobBranchState, JobKind, JobState, type Job } from '@foundry/client/gen/foundry/repo/v1/job_pb'
import { SessionState } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { IconAlertTriangle, IconCircleCheck, IconCircleMinus } from '@tabler/icons-react'
import { useState } from 'react'
import { useLocation } from 'wouter'
import { paths } from '../../app/paths'
import { useCommand } from '../../state/command'
import { ConditionLine, saysSomething } from '../../task/header/ConditionLine'
import { AtWork } from '../../task/publish/AtWork'
import { counted } from '../../ui/text/size'
import { InertLine } from '../../ui/text/Inert'
import classes from './actions.module.css'
import { actionText, branchText, conflictPrompt, inState, isOpen, pushes } from './words'

/** The tasks that have branches by the overview, by the names of these. */
type Owners = ReadonlyMap<string, string>

const nobody: Owners = new Map()

/** An action with what becomes of each branch, its state as it is now, and what can be done about it. */
export function ActionJob({ job, label, owners = nobody }: { job: Job; label: string; owners?: Owners }) {
  const conflict = job.branches.find((branch) => branch.state === JobBranchState.CONFLICT)
  return (
    <section className={classes.job} aria-label={label}>
      <p className={classes.state} role="status">
        <Mark job={job} />
        <InertLine className={classes.words} text={`${actionText(job)}: ${stateText(job)}`} />
        {isOpen(job) && <Cancel job={job} />}
        {!isOpen(job) && inState(job, JobBranchState.PUSHED) + inState(job, JobBranchState.PUSHING) > 0 && <Undo job={job} />}
        {isUndoOfSome(job) && <UndoOthers job={job} />}
      </p>
      {saysSomething(job.condition) && <ConditionLine condition={job.condition} />}
      <Branches job={job} owners={owners} />
      {conflict !== undefined && <Resolve job={job} branch={conflict} />}
    </section>
  )
}

/** The branches of a job; a watch has the first ones of many, the others are read when they are asked for. */
function Branches({ job, owners }: { job: Job; owners: Owners }) {
  const client = useFoundry()
  const { jobId } = job
  const [whole, setWhole] = useState<{ of: Job; branches: Job['branches'] }>()
  const read = useCommand('The branches were not read', () => client.repo.getJob({ jobId }))
  const more = job.branchCount - job.branches.length
  // What was read of an earlier state is not shown beside this one.
  const branches = whole?.of === job ? whole.branches : job.branches
  if (branches.length === 0) return null
  const show = async () => {
    const found = (await read.run())?.job
    if (found !== undefined) setWhole({ of: job, branches: found.branches })
  }
  return (
    <>
      <ul className={classes.branches} aria-label="Branches">
        {branches.map((branch) => (
          <li key={branch.branch}>
            <InertLine text={`${branch.branch}: ${branchText(branch)}`} />
            {branch.state === JobBranchState.PLANNED && <AtWork job={job} branch={branch.branch} owner={owners.get(branch.branch)} />}
          </li>
        ))}
      </ul>
      {job.branchCount > branches.length && (
        <Button size="compact-xs" variant="default" loading={read.busy} onClick={() => void show()}>
          {`Show ${counted(more, 'more branch', 'more branches')}`}
        </Button>
      )}
    </>
  )
}

function Mark({ job }: { job: Job }) {
  if (isOpen(job)) return <Loader size={14} aria-hidden />
  if (job.state === JobState.DONE) return <IconCircleCheck size={16} aria-hidden color="var(--fd-ok)" />
  if (job.state === JobState.CANCELLED) return <IconCircleMinus size={16} aria-hidden />
  return <IconAlertTriangle size={16} aria-hidden color="var(--fd-error)" />
}

function stateText(job: Job): string {
  const pushed = inState(job, JobBranchState.PUSHED)
  const planned = inState(job, JobBranchState.PLANNED)
  const pushing = inState(job, JobBranchState.PUSHING)
  switch (job.state) {
    case JobState.QUEUED:
      return 'queued'
    case JobState.RUNNING:
      if (!pushes(job.kind)) return 'running'
      return planned + pushing > 0 ? 'pushing' : 'planning'
    case JobState.DONE:
      if (!pushes(job.kind)) return 'done'
      if (pushed > 0) return `${counted(pushed, 'branch', 'branches')} pushed`
      return planned > 0 ? `a plan for ${counted(planned, 'branch', 'branches')}` : 'nothing to do'
    case JobState.CANCELLED:
      return pushing > 0 ? 'cancelled, perhaps pushed' : 'cancelled'
    default:
      if (pushing > 0) return `failed, ${counted(pushing, 'branch', 'branches')} perhaps pushed`
      return pushed > 0 ? `failed after ${counted(pushed, 'branch', 'branches')}` : 'nothing was changed'
  }
}

function Cancel({ job }: { job: Job }) {
  const client = useFoundry()
  const { jobId } = job
  const cancel = useCommand('The job was not cancelled', (requestId: string) => client.repo.cancelJob({ requestId, jobId }), true)
  return (
    <Button size="compact-xs" variant="default" loading={cancel.busy} onClick={() => void cancel.run()}>
      Cancel job
    </Button>
  )
}

function Undo({ job }: { job: Job }) {
  const client = useFoundry()
  const { jobId, kind } = job
  const undo = useCommand('The job was not undone', (requestId: string) => client.repo.undoJob({ requestId, jobId }), true)
  return (
    <Button size="compact-xs" variant="default" loading={undo.busy} onClick={() => void undo.run()}>
      {kind === JobKind.UNDO ? 'Do it again' : 'Undo'}
    </Button>
  )
}

/** Whether an undo was refused for some of its branches alone. */
function isUndoOfSome(job: Job): boolean {
  const isRefused = job.kind === JobKind.UNDO && job.state === JobState.FAILED && inState(job, JobBranchState.REFUSED) > 0
  return isRefused && inState(job, JobBranchState.PLANNED) > 0
}

/** Brings the branches back that have not moved since. */
function UndoOthers({ job }: { job: Job }) {
  const client = useFoundry()
  const jobId = job.action?.undoneJobId ?? ''
  const undo = useCommand(
    'The job was not undone',
    async (requestId: string) => {
      // A watch has the first branches of many.
      const whole = (await client.repo.getJob({ jobId: job.jobId })).job ?? job
      const others = whole.branches.filter((it) => it.state === JobBranchState.PLANNED)
      return await client.repo.undoJob({ requestId, jobId, branches: others.map((it) => it.branch) })
    },
    true,
  )
  return (
    <Button size="compact-xs" variant="default" loading={undo.busy} onClick={() => void undo.run()}>
      Undo the others
    </Button>
  )
}

function Resolve({ job, branch }: { job: Job; branch: Job['branches'][number] }) {
  const client = useFoundry()
  const [, navigate] = useLocation()
  const { organizationId, repositoryId } = job
  const hand = useCommand(
    'No agent was asked to resolve it',
    async (requestId: string) => {
      const text = conflictPrompt(branch)
      const title = `Resolve conflicts of ${branch.branch}`
      try {
        const made = await client.task.createTask({ requestId, organizationId, repositoryId, onBranch: branch.branch, title, prompt: text })
        return made.task?.taskId
      } catch (thrown) {
        const refused = FoundryError.from(thrown)
        const taskId = refused.metadata['task_id']
        // The task that has the branch, often the one that made it, resolves it.
        if (refused.reason !== 'BRANCH_HAS_TASK' || taskId === undefined) throw refused
        const { sessions } = await client.task.getTask({ taskId })
        const session = sessions.findLast((it) => it.state !== SessionState.CLOSED)
        if (session === undefined) throw refused
        await client.task.sendMessage({ requestId, sessionId: session.sessionId, text })
        return taskId
      }
    },
    true,
  )
  const below = job.branches.find((it) => it.branch === branch.parent)
  if (below?.state === JobBranchState.PLANNED) {
    return (
      <p className="fd-muted">
        <InertLine text={`To have an agent resolve it, rebase ${below.branch} first.`} />
      </p>
    )
  }
  const run = async () => {
    const taskId = await hand.run()
    if (taskId !== undefined) navigate(paths.task(organizationId, taskId))
  }
  return (
    <Button size="compact-sm" variant="default" loading={hand.busy} onClick={() => void run()}>
      Have an agent resolve it
    </Button>
  )
}

import { Button, Loader } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { IconAlertTriangle, IconCircleCheck, IconCircleMinus } from '@tabler/icons-react'
import { JobBranchState, JobState, type Job, type JobBranch, type JobCommit } from '@foundry/client/gen/foundry/repo/v1/job_pb'
import { useCommand } from '../../state/command'
import { PullRequestLink } from '../../ui/PullRequestLink'
import { InertLine, InertText } from '../../ui/text/Inert'
import { counted } from '../../ui/text/size'
import { ConditionLine, saysSomething } from '../header/ConditionLine'
import { AtWork } from './AtWork'
import classes from './publish.module.css'
import { planText, short } from './words'

/** Whether a job has not ended. */
export function isOpen(job: Job): boolean {
  return job.state === JobState.QUEUED || job.state === JobState.RUNNING
}

/** A job with its plan, its state as it is now, and what the remote has said. */
export function JobView({ job }: { job: Job }) {
  const client = useFoundry()
  const { jobId } = job
  const cancel = useCommand('The job was not cancelled', (requestId: string) => client.repo.cancelJob({ requestId, jobId }), true)
  return (
    <section className={classes.job} aria-label="Publication">
      <p className={classes.state} role="status">
        <Mark job={job} />
        <InertLine text={stateText(job)} />
        {isOpen(job) && (
          <Button size="compact-xs" variant="default" loading={cancel.busy} onClick={() => void cancel.run()}>
            Cancel job
          </Button>
        )}
      </p>
      {saysSomething(job.condition) && <ConditionLine condition={job.condition} />}
      {job.branches.map((branch) => (
        <Branch key={branch.branch} branch={branch} job={job} />
      ))}
    </section>
  )
}

function Mark({ job }: { job: Job }) {
  if (isOpen(job)) return <Loader size={14} aria-hidden />
  if (job.state === JobState.DONE) return <IconCircleCheck size={16} aria-hidden className={classes.done} />
  if (job.state === JobState.CANCELLED) return <IconCircleMinus size={16} aria-hidden />
  return <IconAlertTriangle size={16} aria-hidden className={classes.failed} />
}

function stateText(job: Job): string {
  const [branch] = job.branches
  const name = branch?.branch ?? ''
  switch (job.state) {
    case JobState.QUEUED:
      return `Queued: ${name}`
    case JobState.RUNNING:
      return branch?.state === JobBranchState.PENDING || job.publish?.planOnly === true ? `Planning ${name}` : `Pushing to ${name}`
    case JobState.DONE:
      return branch?.state === JobBranchState.PUSHED
        ? `${name} is at ${short(branch.newCommit)} at the remote`
        : `This would be pushed to ${name}`
    case JobState.CANCELLED:
      return `Cancelled: ${name}`
    default:
      return `Not published to ${name}`
  }
}

function Branch({ branch, job }: { branch: JobBranch; job: Job }) {
  const { commits, commitCount, lostCommits, lostCount } = branch
  return (
    <>
      {branch.pullRequest !== undefined && (
        <p>
          <PullRequestLink pullRequest={branch.pullRequest} />
        </p>
      )}
      {branch.newCommit !== '' && (
        <div className={classes.plan}>
          <p>{planText(branch)}</p>
          {branch.note !== '' && (
            <p className="fd-muted">
              <InertLine text={branch.note} />
            </p>
          )}
          {branch.state === JobBranchState.PLANNED && <AtWork job={job} branch={branch.branch} />}
          {branch.refusals.map((refusal) => (
            <div key={refusal.reason}>
              <p>This would be refused:</p>
              <ConditionLine condition={refusal} />
            </div>
          ))}
          <Commits label="Commits" commits={commits} count={Number(commitCount)} />
          {lostCount > 0n && (
            <>
              <p>Lost at the remote: {counted(Number(lostCount), 'commit')}</p>
              <Commits label="Lost commits" commits={lostCommits} count={Number(lostCount)} />
            </>
          )}
        </div>
      )}
      {branch.rewrites && branch.state === JobBranchState.PUSHED && (
        <p className="fd-muted">
          What it replaced is kept. To get it as a branch of a clone:{' '}
          <code>{`foundry task fetch ${job.taskId} --replaced ${job.jobId}`}</code>
        </p>
      )}
      {branch.remoteMessage !== '' && (
        <div className={classes.said}>
          <p className="fd-muted">The remote said:</p>
          <div className={classes.words}>
            <InertText text={branch.remoteMessage} mono />
          </div>
        </div>
      )}
    </>
  )
}

function Commits({ label, commits, count }: { label: string; commits: JobCommit[]; count: number }) {
  const more = count - commits.length
  return (
    <ul aria-label={label}>
      {commits.map(({ commit, subject }) => (
        <li key={commit}>
          <code>{short(commit)}</code> <InertLine text={subject} />
        </li>
      ))}
      {more > 0 && <li className="fd-muted">and {more} more</li>}
    </ul>
  )
}

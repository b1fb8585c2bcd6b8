import { JobBranchState, JobKind, JobState, type Job, type JobBranch } from '@foundry/client/gen/foundry/repo/v1/job_pb'
import { counted } from '../../ui/text/size'

const KINDS: Partial<Record<JobKind, string>> = {
  [JobKind.SYNC_REPO]: 'Synchronize',
  [JobKind.RESTACK_REPO]: 'Restack all stacks',
  [JobKind.RESTACK_SUBTREE]: 'Restack',
  [JobKind.REBASE_BRANCH]: 'Rebase',
  [JobKind.REPARENT_BRANCH]: 'Change the parent of',
  [JobKind.REGISTER_EXISTING_BRANCH]: 'Register',
  [JobKind.UNDO]: 'Undo',
}

/** What a job does, as in `Restack s2`. */
export function actionText(job: Job): string {
  const name = KINDS[job.kind] ?? 'Action'
  const branch = job.action?.branch ?? ''
  const on = job.kind === JobKind.REPARENT_BRANCH ? ` to ${job.action?.parent ?? ''}` : ''
  return branch === '' ? name : `${name} ${branch}${on}`
}

const short = (commit: string) => commit.slice(0, 12)

/** What becomes of a branch, as in `0123… → 4567…, on s1, 2 commits made again`. */
export function branchText(branch: JobBranch): string {
  const note = branch.note === '' ? '' : `; ${branch.note}`
  switch (branch.state) {
    case JobBranchState.PLANNED:
    case JobBranchState.PUSHING:
    case JobBranchState.PUSHED: {
      const made = branch.commitCount === 0n ? '' : `, ${counted(Number(branch.commitCount), 'commit')} made again`
      const on = branch.parent === '' ? '' : `, on ${branch.parent}`
      return `${short(branch.oldCommit)} → ${short(branch.newCommit)}${on}${made}${note}`
    }
    case JobBranchState.SKIPPED:
      return `stays${note}`
    case JobBranchState.CONFLICT:
      return `commit ${short(branch.conflictCommit)} is in conflict with ${branch.parent} in ${branch.conflictFiles.join(', ')}`
    case JobBranchState.REFUSED:
      return `refused${note}`
    default:
      return 'not planned'
  }
}

/** Whether a job has not ended. */
export function isOpen(job: Job): boolean {
  return job.state === JobState.QUEUED || job.state === JobState.RUNNING
}

/** How many branches of a job are in this state. */
export function inState(job: Job | undefined, state: JobBranchState): number {
  return job?.branches.filter((branch) => branch.state === state).length ?? 0
}

/** What an agent is asked to do about a conflict. */
export function conflictPrompt(branch: JobBranch): string {
  const files = branch.conflictFiles.map((file) => `- ${file}`).join('\n')
  return (
    `The branch ${branch.branch} cannot be brought onto ${branch.parent}: its commit ${branch.conflictCommit} is in conflict with it in ` +
    `these files:\n${files}\n\nYou are on a branch that starts at ${branch.branch}. Run \`git fetch origin\`, then ` +
    `\`git rebase origin/${branch.parent}\`. Resolve the conflicts so that what both sides want is kept, go on until the rebase has ended, ` +
    'and check the result. Do not push.'
  )
}

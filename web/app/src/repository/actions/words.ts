import { JobBranchState, JobKind, JobState, ParentSource, type Job, type JobBranch } from '@foundry/client/gen/foundry/repo/v1/job_pb'
import { quoted } from '../../ui/text/shell'
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
      return `${short(branch.oldCommit)} → ${short(branch.newCommit)}${on}${sourceText(branch)}${made}${note}`
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

const SOURCES: Partial<Record<ParentSource, string>> = {
  [ParentSource.COMMITS]: 'by its commits',
  [ParentSource.USER]: 'given by a user',
  [ParentSource.GIT_SPICE]: 'by git-spice',
}

/** Where the parent is known from, and which one it was if the action gives the branch another one. */
function sourceText(branch: JobBranch): string {
  const by = SOURCES[branch.parentSource]
  if (by === undefined) return ''
  return branch.oldParent === branch.parent ? ` (parent ${by})` : ` (before on ${branch.oldParent}, ${by})`
}

/** Whether an action changes branches at the remote, so that it has a plan to look at first. */
export function pushes(kind: JobKind): boolean {
  return kind !== JobKind.SYNC_REPO && kind !== JobKind.REGISTER_EXISTING_BRANCH
}

/** Whether a job has not ended. */
export function isOpen(job: Job): boolean {
  return job.state === JobState.QUEUED || job.state === JobState.RUNNING
}

/** How many branches of a job are in this state. */
export function inState(job: Job | undefined, state: JobBranchState): number {
  return job?.branchCounts.find((it) => it.state === state)?.count ?? 0
}

/** What an agent is asked to do about a conflict. */
export function conflictPrompt(branch: JobBranch): string {
  const files = branch.conflictFiles.map((file) => `- ${file}`).join('\n')
  const onto = quoted(`origin/${branch.parent}`)
  // The history below the first own commit belongs to what the branch stood on.
  const rebase = branch.fromCommit === '' ? `git rebase ${onto}` : `git rebase --onto ${onto} ${branch.fromCommit}`
  return (
    `The branch ${branch.branch} cannot be brought onto ${branch.parent}: its commit ${branch.conflictCommit} is in conflict with it in ` +
    `these files:\n${files}\n\nYou work on ${branch.branch}, or on a branch that starts there. Run \`git fetch origin\`, then \`${rebase}\`, ` +
    "which takes along only the commits that are the branch's own. Resolve the conflicts so that what both sides want is kept, go on " +
    'until the rebase has ended, and check the result. Do not push.'
  )
}

import { timestampMs } from '@bufbuild/protobuf/wkt'
import type { Publication } from '@foundry/client/gen/foundry/common/v1/work_pb'
import type { JobBranch } from '@foundry/client/gen/foundry/repo/v1/job_pb'
import { TaskState, type Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { counted } from '../../ui/text/size'

/** The first digits of a commit. */
export function short(commit: string): string {
  return commit.slice(0, 12)
}

/** Where a work is published, as in `published at 0123456789ab on feat/x, 2 commits since`. */
export function publicationText({ commit, branch, commitsSince, replacedBy }: Publication): string {
  const since = commitsSince === 0 ? '' : `, ${counted(commitsSince, 'commit')} since`
  const replaced = replacedBy === '' ? '' : `; replaced there since by the work of ${replacedBy}`
  return `published at ${short(commit)} on ${branch}${since}${replaced}`
}

/** Whether the newest turn of a task has ended, and its work has neither been imported since nor is known not to be saved. */
export function isOutstanding({ newestTurn, changes, state }: Task): boolean {
  const end = newestTurn?.endTime
  if (end === undefined || over.has(state)) return false
  const failed = changes?.notSaved
  if (failed?.reason === 'REPOSITORY_REMOVED') return false
  return ![changes?.asOfTime, failed?.attemptTime].some((time) => time !== undefined && timestampMs(time) >= timestampMs(end))
}

/** Without a sandbox nothing more comes. */
const over: ReadonlySet<TaskState> = new Set([TaskState.ARCHIVED, TaskState.KILLED, TaskState.ERROR])

/** What becomes of a branch, as in `new branch, 2 commits, 1 file, +3 −0`. */
export function planText(branch: JobBranch): string {
  const { oldCommit, newCommit, rewrites } = branch
  const parts = [
    oldCommit === ''
      ? 'new branch'
      : oldCommit === newCommit
        ? 'the remote has it already'
        : `${rewrites ? 'replaces' : 'continues'} ${short(oldCommit)}`,
    counted(Number(branch.commitCount), 'commit'),
    counted(branch.filesChanged, 'file'),
    `+${branch.additions} −${branch.deletions}`,
  ]
  return parts.join(', ')
}

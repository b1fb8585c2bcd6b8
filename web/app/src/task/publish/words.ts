import type { Publication } from '@foundry/client/gen/foundry/common/v1/work_pb'
import type { JobBranch } from '@foundry/client/gen/foundry/repo/v1/job_pb'
import { counted } from '../../ui/text/size'

/** The first digits of a commit. */
export function short(commit: string): string {
  return commit.slice(0, 12)
}

/** Where a work is published, as in `published at 0123456789ab on feat/x, 2 commits since`. */
export function publicationText({ commit, branch, commitsSince }: Publication): string {
  const since = commitsSince === 0 ? '' : `, ${counted(commitsSince, 'commit')} since`
  return `published at ${short(commit)} on ${branch}${since}`
}

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

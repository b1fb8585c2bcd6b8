import { WorkNoticeKind, type MergedFrom, type WorkNotice } from '@foundry/client/gen/foundry/common/v1/work_pb'
import type { Changes } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { quoted } from '../../../ui/text/shell'
import { counted, sizeText } from '../../../ui/text/size'

/** What a notice says, and what to do about it. Both contain texts of the agent. */
export interface NoticeText {
  readonly what: string
  readonly next?: string
}

const lost: Readonly<Record<string, string>> = {
  missing: 'The repository (.git) is missing',
  replaced: 'The repository (.git) was replaced by one without the base commit',
}

/** What saves a file that no hand-over takes. An ignored one is lost with the sandbox too, so that is no advice. */
const keepLarge = 'Ask the agent to make it smaller, or to copy it to where it is kept; it ends with the sandbox.'

const texts: Readonly<Record<WorkNoticeKind, (notice: WorkNotice) => NoticeText>> = {
  [WorkNoticeKind.UNSPECIFIED]: ({ path, branch }) => ({ what: `A notice about ${path}${branch}` }),
  [WorkNoticeKind.LINKED_WORKTREE]: ({ path, branch }) => ({
    what: `The linked worktree ${path}${branch === '' ? '' : ` on branch ${branch}`} is not part of the work`,
    next: "Ask the agent to commit there and merge it into the task's branch.",
  }),
  [WorkNoticeKind.SUBMODULE_ABSENT]: ({ path }) => ({
    what: `The submodule ${path} is not checked out in the sandbox`,
    next: 'What is written below it is not part of the work.',
  }),
  [WorkNoticeKind.SUBMODULE_CHANGED]: ({ path, count }) => ({
    what: `${count === 0n ? 'New commits' : counted(count, 'changed file')} below the submodule ${path} ${count === 1n ? 'is' : 'are'} not part of the work`,
    next: "Ask the agent to push them to the submodule's own repository, or to copy them elsewhere.",
  }),
  [WorkNoticeKind.OTHER_BRANCH]: ({ branch, count }) =>
    branch === ''
      ? {
          what: `${counted(count, 'further branch', 'further branches')} ${count === 1n ? 'is' : 'are'} not compared with the work`,
          next: 'Ask the agent to delete branches that it does not need.',
        }
      : {
          what: `${counted(count, 'commit')} on branch ${branch} ${count === 1n ? 'is' : 'are'} not part of the work`,
          next: `Ask the agent to merge ${branch} into the task's branch.`,
        },
  [WorkNoticeKind.STASH]: ({ count }) => ({
    what: `${counted(count, 'stash', 'stashes')} ${count === 1n ? 'is' : 'are'} not part of the work`,
    next: 'Ask the agent to apply what it has stashed.',
  }),
  [WorkNoticeKind.UNREADABLE]: ({ path }) => ({
    what: `${path} cannot be read, so its changes are not part of the work`,
    next: 'Ask the agent to make it readable.',
  }),
  [WorkNoticeKind.TOO_LARGE]: ({ path, count }) => ({
    what: `${path} is too large (${sizeText(count)}, the limit is 64 MiB) and not part of the work`,
    next: keepLarge,
  }),
  [WorkNoticeKind.LARGE_IGNORED]: ({ path, count }) => ({
    what: `${path} (${sizeText(count)}) is ignored by git and in the sandbox alone`,
    next: keepLarge,
  }),
  [WorkNoticeKind.OVER_TOTAL]: ({ path, count }) => ({
    what: `${path} (${sizeText(count)}) is not part of the work, which is too large with it`,
    next: keepLarge,
  }),
  [WorkNoticeKind.IGNORED_BY_WORK]: ({ path, count, detail }) => ({
    what:
      (count === 1n ? `${path} is ignored` : `${counted(count, 'file')}, the first is ${path}, are ignored`) +
      ` by a rule in ${detail} that the base does not have, and in the sandbox alone`,
    next: 'If it can be built again, nothing is lost; otherwise ask the agent to take the rule out.',
  }),
  [WorkNoticeKind.LFS_OBJECTS]: ({ path, count, detail }) => ({
    what:
      'Files of Git LFS ' +
      (detail === 'not kept' ? 'could not be kept, as they are damaged or there is no room for them' : 'are too large for the hand-over') +
      '; the work has their pointers, and the sandbox their content: ' +
      (count === 1n ? path : `${counted(count, 'file')}, the first is ${path}`),
    next: 'Ask the agent to store less in them, or copy them out of the sandbox.',
  }),
  [WorkNoticeKind.LFS_POINTERS]: ({ path, count }) => ({
    what:
      'The repository uses Git LFS, and in the sandbox ' +
      (count === 1n ? `${path} is a pointer` : `${counted(count, 'file')} are pointers, the first is ${path}`) +
      '. They could not be fetched, or there is no git-lfs.',
  }),
  [WorkNoticeKind.OPERATION]: ({ detail, count }) => ({
    what: `A ${detail} is in progress${count === 0n ? '' : `, ${counted(count, 'file')} in conflict`}`,
    next: 'Ask the agent to finish or abort it; until then the work is the tree as it is.',
  }),
  [WorkNoticeKind.REPOSITORY_LOST]: ({ detail }) => ({
    what: `${lost[detail] ?? 'The repository (.git) is damaged'}: the tree is compared with the base, and the agent's own commits are not part of the work`,
    next: 'Continue in a new task if the agent needs the history.',
  }),
  [WorkNoticeKind.NESTED_REPOSITORY]: ({ path }) => ({ what: `The repository inside the tree, ${path}, is taken as plain files` }),
  [WorkNoticeKind.HISTORY_REWRITTEN]: () => ({ what: 'The history was rewritten: the work does not descend from its base' }),
  [WorkNoticeKind.HISTORY_LEFT_OUT]: () => ({
    what: "The tree is part of the work, but not the agent's own commits: what they contain is too large",
    next: 'Ask the agent to remove large files from its commits.',
  }),
  [WorkNoticeKind.MANY_FILES]: ({ path, count, detail }) => ({
    what: `The directory ${path} contains ${counted(count, 'new file')}${detail === '' ? '' : ', which are not part of the work'}`,
    next:
      `If it can be built again, ignore it with the line /${path}/ in .gitignore.` +
      (detail === '' ? '' : ' Otherwise ask the agent to pack it into fewer files, or to copy it to where it is kept.'),
  }),
  [WorkNoticeKind.LINE_ENDINGS]: ({ path, count }) => ({
    what: count === 1n ? `${path} differs in line endings alone` : `${count} files differ in line endings alone, the first is ${path}`,
  }),
  [WorkNoticeKind.MORE]: ({ count }) => ({ what: `${counted(count, 'further notice')} not shown` }),
}

/** The words for a notice; one of a newer version has only a general text. */
export function noticeText(notice: WorkNotice): NoticeText {
  return (texts[notice.kind] ?? texts[WorkNoticeKind.UNSPECIFIED])(notice)
}

/** What the agent is asked so that it takes in what a notice says is left out; none where only a person can decide. */
export function requestText({ kind, branch, path }: WorkNotice): string | undefined {
  switch (kind) {
    case WorkNoticeKind.OTHER_BRANCH:
      return branch === '' ? undefined : `Merge the branch ${quoted(branch)} into the branch that you work on, and resolve any conflicts.`
    case WorkNoticeKind.LINKED_WORKTREE: {
      const from = branch === '' ? 'what is there' : `its branch ${quoted(branch)}`
      return `Commit what is in the linked worktree ${quoted(path)}, and merge ${from} into the branch that you work on.`
    }
    case WorkNoticeKind.STASH:
      return 'Apply what you have stashed to the branch that you work on, and resolve any conflicts.'
    case WorkNoticeKind.OPERATION:
      return 'Finish the operation of git that is in progress, resolving any conflicts, or abort it if it is not wanted.'
    default:
      return undefined
  }
}

/** What a work has merged, as in `30 files merged from develop`. */
export function mergedText(merged: MergedFrom): string {
  return `${counted(merged.filesChanged, 'file')} merged from ${merged.branch}`
}

/** Kinds of notices about what was taken; all others name what is in the sandbox alone. */
const taken = new Set([
  WorkNoticeKind.SUBMODULE_ABSENT,
  WorkNoticeKind.LFS_POINTERS,
  WorkNoticeKind.NESTED_REPOSITORY,
  WorkNoticeKind.HISTORY_REWRITTEN,
  WorkNoticeKind.LINE_ENDINGS,
])

/** What is lost when the sandbox ends: newer work that is not saved, and what the work leaves out. */
export function lostWithSandbox(changes: Changes | undefined): readonly NoticeText[] {
  if (changes === undefined) return []
  const { notSaved, notices } = changes
  const left = notices.filter(({ kind, detail }) => !taken.has(kind) && (kind !== WorkNoticeKind.MANY_FILES || detail !== ''))
  const newer = notSaved === undefined ? [] : [{ what: `Newer work is not saved: ${notSaved.message}` }]
  return [...newer, ...left.map(noticeText)]
}

import { IconAlertTriangle, IconCloudCheck, IconGitMerge, IconGitPullRequest, IconInfoCircle } from '@tabler/icons-react'
import { WorkNoticeKind, type WorkNotice } from '@foundry/client/gen/foundry/common/v1/work_pb'
import type { Changes } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { sentence } from '../../../ui'
import { PullRequestLink } from '../../../ui/PullRequestLink'
import { InertLine } from '../../../ui/text/Inert'
import { ConditionLine } from '../../header/ConditionLine'
import { publicationText } from '../../publish/words'
import { mergedText, noticeText } from './notices'
import classes from './notices.module.css'

/** Kinds that leave nothing out. */
const harmless = new Set([
  WorkNoticeKind.LFS_POINTERS,
  WorkNoticeKind.NESTED_REPOSITORY,
  WorkNoticeKind.LINE_ENDINGS,
  WorkNoticeKind.HISTORY_REWRITTEN,
])

/** What there is to know about a work besides its files: where it is published, why newer work is not saved, what it left out, what it merged. */
export function Notices({ changes }: { changes: Changes | undefined }) {
  if (changes === undefined) return null
  const { notSaved, notices, mergedFrom, publication } = changes
  return (
    <>
      {notSaved !== undefined && (
        <section aria-label="Work that is not saved">
          <ConditionLine condition={notSaved} />
        </section>
      )}
      {(notices.length + mergedFrom.length > 0 || publication !== undefined) && (
        <ul className={classes.notices} aria-label="Notices about the work">
          {publication !== undefined && (
            <li className={classes.notice}>
              <IconCloudCheck size={14} aria-hidden />
              <InertLine text={`${sentence(publicationText(publication))}`} />
            </li>
          )}
          {publication?.pullRequest !== undefined && (
            <li className={classes.notice}>
              <IconGitPullRequest size={14} aria-hidden />
              <PullRequestLink pullRequest={publication.pullRequest} />
            </li>
          )}
          {mergedFrom.map((merged) => (
            <li key={`merged ${merged.branch}`} className={classes.notice}>
              <IconGitMerge size={14} aria-hidden />
              <span className={classes.text}>
                <InertLine text={`${mergedText(merged)}, not listed here.`} />
                <InertLine
                  text="A patch without them applies to the base only after that merge. List them too, or fetch the branch, to have all of it."
                  className="fd-muted"
                />
              </span>
            </li>
          ))}
          {notices.map((notice, at) => (
            <Notice key={at} notice={notice} />
          ))}
        </ul>
      )}
    </>
  )
}

function Notice({ notice }: { notice: WorkNotice }) {
  const { what, next } = noticeText(notice)
  const Icon = harmless.has(notice.kind) ? IconInfoCircle : IconAlertTriangle
  return (
    <li className={classes.notice}>
      <Icon size={14} aria-hidden />
      <span className={classes.text}>
        <InertLine text={`${what}.`} />
        {next !== undefined && <InertLine text={next} className="fd-muted" />}
      </span>
    </li>
  )
}

import { Button } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { IconAlertTriangle, IconCloudCheck, IconGitMerge, IconGitPullRequest, IconInfoCircle } from '@tabler/icons-react'
import { WorkNoticeKind, type WorkNotice } from '@foundry/client/gen/foundry/common/v1/work_pb'
import type { Changes } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useCommand } from '../../../state/command'
import { ErrorState, sentence, toastDone } from '../../../ui'
import { PullRequestLink } from '../../../ui/PullRequestLink'
import { InertLine } from '../../../ui/text/Inert'
import { visibleLine } from '../../../ui/text/visible'
import { ConditionLine } from '../../header/ConditionLine'
import { publicationText } from '../../publish/words'
import { mergedText, noticeText, requestText } from './notices'
import classes from './notices.module.css'

/** Kinds that leave nothing out. */
const harmless = new Set([
  WorkNoticeKind.LFS_POINTERS,
  WorkNoticeKind.NESTED_REPOSITORY,
  WorkNoticeKind.LINE_ENDINGS,
  WorkNoticeKind.HISTORY_REWRITTEN,
])

/** What there is to know about a work besides its files: where it is published, why newer work is not saved, what it left out, what it merged.
 *  `sessionId`: whose agent can be asked to take in what is left out; none for people who may only read. */
export function Notices({ changes, sessionId }: { changes: Changes | undefined; sessionId?: string | undefined }) {
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
                  text="A patch without them applies to the base only after that merge. List them too, or choose “Fetch branch…” in the menu of the task, to have all of it."
                  className="fd-muted"
                />
              </span>
            </li>
          ))}
          {notices.map((notice, at) => (
            <Notice key={at} notice={notice} sessionId={sessionId} />
          ))}
        </ul>
      )}
    </>
  )
}

function Notice({ notice, sessionId }: { notice: WorkNotice; sessionId: string | undefined }) {
  const { what, next } = noticeText(notice)
  const request = requestText(notice)
  const Icon = harmless.has(notice.kind) ? IconInfoCircle : IconAlertTriangle
  return (
    <li className={classes.notice}>
      <Icon size={14} aria-hidden />
      <span className={classes.text}>
        <InertLine text={`${what}.`} />
        {next !== undefined && <InertLine text={next} className="fd-muted" />}
        {request !== undefined && sessionId !== undefined && <Ask text={request} sessionId={sessionId} />}
      </span>
    </li>
  )
}

/** Sends the agent what the notice advises. */
function Ask({ text, sessionId }: { text: string; sessionId: string }) {
  const client = useFoundry()
  const send = useCommand('The agent was not asked', (requestId: string) => client.task.sendMessage({ requestId, sessionId, text }))
  const sent = async () => {
    if ((await send.run()) !== undefined) toastDone('Message sent', visibleLine(text))
  }
  return (
    <>
      <span>
        <Button size="compact-xs" variant="default" loading={send.busy} onClick={() => void sent()}>
          Ask the agent
        </Button>
      </span>
      {send.error !== undefined && <ErrorState error={send.error} title="The agent was not asked" compact />}
    </>
  )
}

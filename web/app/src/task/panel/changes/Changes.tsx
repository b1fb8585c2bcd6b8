import { ActionIcon, Button, Checkbox, SegmentedControl, Tooltip } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { IconCloudUpload, IconDownload, IconFileDiff, IconGitPullRequest, IconRefresh } from '@tabler/icons-react'
import { Role } from '@foundry/client/gen/foundry/common/v1/common_pb'
import { ReviewSide, SessionState, type FileChange, type Session, type Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import type { ListFileChangesResponse } from '@foundry/client/gen/foundry/task/v1/task_service_pb'
import { memo, useMemo, useRef, useState } from 'react'
import { DiffStat, EmptyState, ErrorState, ListSkeleton, RelativeTime, useStillWhilePressed } from '../../../ui'
import { isEnded } from '../../header/Actions'
import { ConditionLine, saysSomething } from '../../header/ConditionLine'
import { useRead } from '../../../state/read'
import { roleIn, useShell } from '../../../state/shell'
import { InertLine } from '../../../ui/text/Inert'
import { counted } from '../../../ui/text/size'
import { usePlace } from '../../model/usePlace'
import { useViewer } from '../../model/useViewer'
import { PublishDialog } from '../../publish'
import { CommentView } from '../review/CommentView'
import { HeldEditor } from '../review/HeldEditor'
import { SendReview } from '../review/SendReview'
import { useFileKeys } from '../review/useFileKeys'
import { ReviewContext, useReview, useReviewHere } from '../review/useReview'
import { usePatchDownload } from '../usePatchDownload'
import { ChangedFile } from './ChangedFile'
import { Fixes } from './Fixes'
import { Notices } from './Notices'
import classes from './changes.module.css'
import { useDiffChoice, type DiffChoice } from './useDiffChoice'

const PAGE = 200

interface Props {
  task: Task
  /** All sessions of the task. */
  sessions?: readonly Session[]
}

/** The changed files of a task, each with its diff when it is opened; loaded again when the work changes. */
function Changes({ task, sessions = [] }: Props) {
  const viewer = useViewer(task.organizationId)
  const { still: review, onPointerDown } = useStillWhilePressed(useReview(task, viewer))
  const version = task.changes?.version ?? 0n
  if (version === 0n) return <NothingYet task={task} />
  return (
    <ReviewContext value={review}>
      <Reviewed task={task} sessions={sessions} userId={viewer.userId} onPointerDown={onPointerDown} />
    </ReviewContext>
  )
}

function Reviewed({ task, sessions, userId, onPointerDown }: Required<Props> & { userId: string; onPointerDown: () => void }) {
  const client = useFoundry()
  const { taskId } = task
  const version = task.changes?.version ?? 0n
  const [choice, choose] = useDiffChoice()
  const [shown, setShown] = useState(PAGE)
  const [merged, setMerged] = useState(false)
  const [ofTurn, setOfTurn] = useState(false)
  const whole = merged && (task.changes?.mergedFrom.length ?? 0) > 0
  const begun = task.newestTurn?.version ?? 0n
  const since = ofTurn ? begun : 0n
  const compared = useMemo(() => ({ since, whole }), [since, whole])
  const list = useRead(`${taskId}/${since}@${version}/${shown}${whole ? '/whole' : ''}`, async (signal) => {
    const files: FileChange[] = []
    let pageToken = ''
    let last: ListFileChangesResponse | undefined
    do {
      const request = { taskId, pageSize: PAGE, pageToken, whole, sinceVersion: since }
      const page = await client.task.listFileChanges(request, { signal })
      files.push(...page.files)
      last = page
      pageToken = page.nextPageToken
    } while (pageToken !== '' && files.length < shown)
    return { files, changes: last?.changes, from: last?.sinceVersion ?? 0n, withMerged: last?.withMerged === true, more: pageToken !== '' }
  })
  const asked = useAsked(task, sessions)
  const panel = useRef<HTMLDivElement>(null)
  const keys = useFileKeys(panel)
  const { files, changes, from, withMerged, more } = list.data ?? nothing
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: handles keys that bubble up from what is in it
    <div ref={panel} className={classes.changes} onPointerDown={onPointerDown} onKeyDown={keys}>
      <Toolbar task={task} whole={whole} choice={choice} choose={choose} loading={list.loading} onReload={list.reload} />
      <SendReview task={task} sessions={sessions} files={files} userId={userId} />
      {list.error !== undefined && list.data !== undefined && (
        <ErrorState error={list.error} title="The newest changes could not be loaded" onRetry={list.reload} compact />
      )}
      {saysSomething(task.changes?.condition) && task.changes?.notSaved === undefined && (
        <ConditionLine condition={task.changes.condition} />
      )}
      <Notices changes={task.changes} sessionId={asked} />
      <Fixes task={task} />
      {(task.changes?.mergedFrom.length ?? 0) > 0 && (
        <Checkbox
          size="xs"
          className={classes.merged}
          label="List what was merged from other branches too"
          checked={merged}
          onChange={(event) => setMerged(event.currentTarget.checked)}
        />
      )}
      {begun > 0n && (
        <Checkbox
          size="xs"
          className={classes.merged}
          label="Since last turn"
          description={ofTurn ? sinceWords(begun, list.loading ? begun : from) : undefined}
          checked={ofTurn}
          onChange={(event) => setOfTurn(event.currentTarget.checked)}
        />
      )}
      {withMerged && (
        <p className={classes.note}>
          What was merged from other branches since is listed too: it was merged with conflicts, and cannot be left out.
        </p>
      )}
      {list.data === undefined && list.error !== undefined && (
        <ErrorState error={list.error} title="The changes could not be loaded" onRetry={list.reload} retrying={list.loading} />
      )}
      {list.data === undefined && list.error === undefined && <ListSkeleton rows={5} label="Loading the changes" />}
      {list.data !== undefined && files.length === 0 && (
        <EmptyState icon={IconFileDiff} title="No files changed" level={3}>
          {since > 0n ? 'Nothing has changed since the last turn began.' : 'The work has no differences from its base commit.'}
        </EmptyState>
      )}
      <Elsewhere files={files} loaded={list.data !== undefined} complete={!more} />
      {files.length > 0 && (
        <ul className={classes.files} aria-label="Changed files">
          {files.map((file, at) => (
            <ChangedFile
              key={`${whole ? 'whole ' : ''}${since} ${file.path}`}
              taskId={taskId}
              compared={compared}
              file={file}
              version={changes?.version ?? version}
              choice={choice}
              startsOpen={at === 0 && files.length <= 8 && Number(file.patchSize) < 32 * 1024}
            />
          ))}
        </ul>
      )}
      {more && (
        <Button variant="default" m="sm" loading={list.loading} onClick={() => setShown(shown + PAGE)}>
          Show more files
        </Button>
      )}
    </div>
  )
}

/** The session whose agent can be asked to do something: the one that is shown, if it is open. */
function useAsked(task: Task, sessions: readonly Session[]): string | undefined {
  const { session } = usePlace()
  const mayChange = roleIn(useShell(), task.organizationId) >= Role.MEMBER
  if (!mayChange || isEnded(task)) return undefined
  const open = sessions.filter((it) => it.state !== SessionState.CLOSED)
  return (open.find((it) => it.sessionId === session) ?? open[0])?.sessionId
}

const nothing = { files: [] as readonly FileChange[], changes: undefined, from: 0n, withMerged: false, more: false }

function sinceWords(begun: bigint, from: bigint): string {
  if (from === begun) return `What changed since version ${begun}, with which the last turn began`
  return `What changed since version ${from}: the last turn began with version ${begun}, which is not kept any more`
}

/** Comments on files that are not listed, which are sent too. */
function Elsewhere({ files, loaded, complete }: { files: readonly FileChange[]; loaded: boolean; complete: boolean }) {
  const { comments, editor, placesError, lookAgain } = useReviewHere()
  if (!loaded) return null
  const listed = new Set(files.map((file) => file.path))
  const elsewhere = complete ? comments.filter((it) => !listed.has(it.comment.path)) : []
  const gone = editor?.existing === true && !comments.some((it) => it.comment.commentId === editor.commentId)
  const held = editor !== undefined && (gone || (!editor.existing && !listed.has(editor.path))) ? editor : undefined
  const failed = placesError !== undefined && (
    <ErrorState error={placesError} title="The lines of your comments could not be looked for" onRetry={lookAgain} compact />
  )
  if (elsewhere.length === 0 && held === undefined) return failed
  return (
    <section aria-label="Comments on files that are not listed">
      {failed}
      {held !== undefined && (
        <>
          <InertLine text={held.path} className={classes.elsewhere} />
          <HeldEditor
            editor={held}
            now={held.side === ReviewSide.FILE ? held : undefined}
            note={
              gone
                ? 'This comment was sent or deleted since. Copy the text to write it again.'
                : 'The file of this comment is not listed now.'
            }
          />
        </>
      )}
      {elsewhere.map((placed) => (
        <div key={placed.comment.commentId}>
          <InertLine text={placed.comment.path} className={classes.elsewhere} />
          <CommentView placed={placed} apart />
        </div>
      ))}
    </section>
  )
}

function NothingYet({ task }: { task: Task }) {
  const condition = task.changes?.condition
  return (
    <div>
      {saysSomething(condition) && <ConditionLine condition={condition} />}
      <Notices changes={task.changes} />
      <EmptyState icon={IconFileDiff} title="No changes yet" level={3}>
        The agent's changes are saved here at the end of each turn, and from time to time during one.
      </EmptyState>
    </div>
  )
}

interface ToolbarProps {
  task: Task
  whole: boolean
  choice: DiffChoice
  choose: (choice: DiffChoice) => void
  loading: boolean
  onReload: () => void
}

function Toolbar({ task, whole, choice, choose, loading, onReload }: ToolbarProps) {
  const patch = usePatchDownload(task, whole)
  const { changes } = task
  const canPublish = roleIn(useShell(), task.organizationId) >= Role.MEMBER
  const [publishing, setPublishing] = useState<'branch' | 'pull request' | undefined>(undefined)
  return (
    <div className={classes.toolbar}>
      <span className={classes.summary}>
        {counted(changes?.filesChanged ?? 0, 'file')}{' '}
        {changes !== undefined && <DiffStat additions={changes.additions} deletions={changes.deletions} />}{' '}
        <span className="fd-muted">
          <RelativeTime time={changes?.asOfTime ?? changes?.importTime} prefix="saved" ago />
        </span>
      </span>
      <Checkbox
        size="xs"
        label="Wrap"
        checked={choice.wrap}
        onChange={(event) => choose({ ...choice, wrap: event.currentTarget.checked })}
      />
      <SegmentedControl
        aria-label="Diff view"
        data={[
          { value: 'unified', label: 'Unified' },
          { value: 'split', label: 'Split' },
        ]}
        value={choice.view}
        onChange={(view) => choose({ ...choice, view: view === 'split' ? 'split' : 'unified' })}
      />
      <Tooltip label="Refresh">
        <ActionIcon aria-label="Refresh the changes" loading={loading} onClick={onReload}>
          <IconRefresh size={16} />
        </ActionIcon>
      </Tooltip>
      <Tooltip label={patch.progress ?? 'Download patch'}>
        <ActionIcon aria-label="Download patch" loading={patch.busy} onClick={patch.download}>
          <IconDownload size={16} />
        </ActionIcon>
      </Tooltip>
      {canPublish && (
        <>
          <Tooltip label="Publish branch">
            <ActionIcon aria-label="Publish branch" disabled={!patch.possible} onClick={() => setPublishing('branch')}>
              <IconCloudUpload size={16} />
            </ActionIcon>
          </Tooltip>
          <Tooltip label="Publish pull request">
            <ActionIcon aria-label="Publish pull request" disabled={!patch.possible} onClick={() => setPublishing('pull request')}>
              <IconGitPullRequest size={16} />
            </ActionIcon>
          </Tooltip>
        </>
      )}
      <PublishDialog
        task={task}
        pullRequest={publishing === 'pull request'}
        opened={publishing !== undefined}
        onClose={() => setPublishing(undefined)}
      />
    </div>
  )
}

export default memo(Changes)

import { ActionIcon, Button, Checkbox, SegmentedControl, Tooltip } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { IconCloudUpload, IconDownload, IconFileDiff, IconGitPullRequest, IconRefresh } from '@tabler/icons-react'
import { Role } from '@foundry/client/gen/foundry/common/v1/common_pb'
import type { FileChange, Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import type { ListFileChangesResponse } from '@foundry/client/gen/foundry/task/v1/task_service_pb'
import { memo, useState } from 'react'
import { DiffStat, EmptyState, ErrorState, ListSkeleton, RelativeTime } from '../../../ui'
import { ConditionLine, saysSomething } from '../../header/ConditionLine'
import { useRead } from '../../../state/read'
import { roleIn, useShell } from '../../../state/shell'
import { counted } from '../../../ui/text/size'
import { PublishDialog } from '../../publish'
import { usePatchDownload } from '../usePatchDownload'
import { ChangedFile } from './ChangedFile'
import { Notices } from './Notices'
import classes from './changes.module.css'
import { useDiffChoice, type DiffChoice } from './useDiffChoice'

const PAGE = 200

/** The changed files of a task, each with its diff when it is opened; loaded again when the work changes. */
function Changes({ task }: { task: Task }) {
  const client = useFoundry()
  const { taskId } = task
  const version = task.changes?.version ?? 0n
  const [choice, choose] = useDiffChoice()
  const [shown, setShown] = useState(PAGE)
  const [merged, setMerged] = useState(false)
  const whole = merged && (task.changes?.mergedFrom.length ?? 0) > 0
  const list = useRead(`${taskId}@${version}/${shown}${whole ? '/whole' : ''}`, async (signal) => {
    const files: FileChange[] = []
    let pageToken = ''
    let changes: ListFileChangesResponse['changes']
    do {
      const page = await client.task.listFileChanges({ taskId, pageSize: PAGE, pageToken, whole }, { signal })
      files.push(...page.files)
      changes = page.changes
      pageToken = page.nextPageToken
    } while (pageToken !== '' && files.length < shown)
    return { files, changes, more: pageToken !== '' }
  })
  if (version === 0n) return <NothingYet task={task} />
  if (list.data === undefined) {
    if (list.error !== undefined)
      return <ErrorState error={list.error} title="The changes could not be loaded" onRetry={list.reload} retrying={list.loading} />
    return <ListSkeleton rows={5} label="Loading the changes" />
  }
  const { files, changes, more } = list.data
  if (files.length === 0)
    return (
      <div>
        <Notices changes={task.changes} />
        <EmptyState icon={IconFileDiff} title="No files changed" level={3}>
          The work has no differences from its base commit.
        </EmptyState>
      </div>
    )
  return (
    <div className={classes.changes}>
      <Toolbar task={task} whole={whole} choice={choice} choose={choose} loading={list.loading} onReload={list.reload} />
      {list.error !== undefined && (
        <ErrorState error={list.error} title="The newest changes could not be loaded" onRetry={list.reload} compact />
      )}
      {saysSomething(task.changes?.condition) && task.changes?.notSaved === undefined && (
        <ConditionLine condition={task.changes.condition} />
      )}
      <Notices changes={task.changes} />
      {(task.changes?.mergedFrom.length ?? 0) > 0 && (
        <Checkbox
          size="xs"
          className={classes.merged}
          label="List what was merged from other branches too"
          checked={merged}
          onChange={(event) => setMerged(event.currentTarget.checked)}
        />
      )}
      <ul className={classes.files} aria-label="Changed files">
        {files.map((file, at) => (
          <ChangedFile
            key={`${whole ? 'whole ' : ''}${file.path}`}
            taskId={taskId}
            whole={whole}
            file={file}
            version={changes?.version ?? version}
            choice={choice}
            startsOpen={at === 0 && files.length <= 8 && Number(file.patchSize) < 32 * 1024}
          />
        ))}
      </ul>
      {more && (
        <Button variant="default" m="sm" loading={list.loading} onClick={() => setShown(shown + PAGE)}>
          Show more files
        </Button>
      )}
    </div>
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

import { ActionIcon, Button, Menu, Tooltip } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import {
  IconArchive,
  IconCloudUpload,
  IconDots,
  IconDownload,
  IconGitBranch,
  IconGitPullRequest,
  IconHelpCircle,
  IconPlayerStopFilled,
  IconRefresh,
  IconTrash,
} from '@tabler/icons-react'
import { TaskState, type Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useState } from 'react'
import { ConfirmDialog, sentence } from '../../ui'
import { useClearedUnless, useCommand, type Command } from '../../state/command'
import { InertLine } from '../../ui/text/Inert'
import { lostWithSandbox } from '../panel/changes/notices'
import { usePatchDownload } from '../panel/usePatchDownload'
import { FetchDialog } from '../fetch'
import { PublishDialog } from '../publish'
import { publicationText } from '../publish/words'
import { useStop } from '../sessions/useStop'
import { isProvisioning } from './StageList'
import classes from './header.module.css'

interface Props {
  task: Task
  canEdit: boolean
  retry: Command<[], unknown>
  /** The session that is shown, while it has a running turn. */
  running: string | undefined
  onExplain: () => void
}

const ended: readonly TaskState[] = [TaskState.ARCHIVED, TaskState.ARCHIVING, TaskState.KILLED, TaskState.KILLING]

/** Whether a task can no longer be changed; all of it can still be read. */
export function isEnded(task: Task): boolean {
  return ended.includes(task.state)
}

/** The actions on a task as a whole. */
export function Actions({ task, canEdit, retry, running, onExplain }: Props) {
  const [asking, setAsking] = useState<'archive' | 'kill' | undefined>(undefined)
  const [publishing, setPublishing] = useState<'branch' | 'pull request' | undefined>(undefined)
  const [fetching, setFetching] = useState(false)
  const patch = usePatchDownload(task)
  return (
    <>
      {running !== undefined && canEdit && <StopTurn key={running} sessionId={running} />}
      {task.state === TaskState.ERROR && !isProvisioning(task) && canEdit && (
        <Button variant="default" leftSection={<IconRefresh size={14} />} loading={retry.busy} onClick={() => void retry.run()}>
          Retry
        </Button>
      )}
      <Menu>
        <Menu.Target>
          <Tooltip label="More actions">
            <ActionIcon aria-label="More actions" variant="default" size={30} loading={patch.busy}>
              <IconDots size={16} />
            </ActionIcon>
          </Tooltip>
        </Menu.Target>
        <Menu.Dropdown>
          <Menu.Item leftSection={<IconHelpCircle size={15} />} onClick={onExplain}>
            Explain this task
          </Menu.Item>
          <Menu.Item leftSection={<IconDownload size={15} />} onClick={patch.download} disabled={!patch.possible}>
            Download patch
          </Menu.Item>
          <Menu.Item leftSection={<IconGitBranch size={15} />} onClick={() => setFetching(true)} disabled={!patch.possible}>
            Fetch branch…
          </Menu.Item>
          {canEdit && (
            <>
              <Menu.Item leftSection={<IconCloudUpload size={15} />} onClick={() => setPublishing('branch')} disabled={!patch.possible}>
                Publish branch…
              </Menu.Item>
              <Menu.Item
                leftSection={<IconGitPullRequest size={15} />}
                onClick={() => setPublishing('pull request')}
                disabled={!patch.possible}
              >
                Publish pull request…
              </Menu.Item>
            </>
          )}
          {canEdit && !isEnded(task) && (
            <>
              <Menu.Divider />
              <Menu.Item
                leftSection={<IconArchive size={15} />}
                onClick={() => setAsking('archive')}
                disabled={task.state === TaskState.RUNNING}
              >
                Archive…
              </Menu.Item>
              <Menu.Item color="var(--fd-error)" leftSection={<IconTrash size={15} />} onClick={() => setAsking('kill')}>
                Kill…
              </Menu.Item>
            </>
          )}
        </Menu.Dropdown>
      </Menu>
      <PublishDialog
        task={task}
        pullRequest={publishing === 'pull request'}
        opened={publishing !== undefined}
        onClose={() => setPublishing(undefined)}
      />
      <FetchDialog task={task} opened={fetching} onClose={() => setFetching(false)} />
      <End task={task} asking={asking} onClose={() => setAsking(undefined)} />
    </>
  )
}

function StopTurn({ sessionId }: { sessionId: string }) {
  const stop = useStop(sessionId, true, true)
  return (
    <Button
      className={classes.stop}
      variant="default"
      leftSection={<IconPlayerStopFilled size={13} />}
      loading={stop.busy}
      onClick={() => void stop.run()}
    >
      Stop turn
    </Button>
  )
}

function End({ task, asking, onClose }: { task: Task; asking: 'archive' | 'kill' | undefined; onClose: () => void }) {
  const client = useFoundry()
  const { taskId } = task
  const publication = task.changes?.publication
  const published = publication !== undefined && <p>{sentence(`the work is ${publicationText(publication)}`)}</p>
  const archive = useCommand('The task was not archived', (requestId: string) => client.task.archiveTask({ requestId, taskId }))
  const kill = useCommand('The task was not killed', (requestId: string) => client.task.killTask({ requestId, taskId }))
  const confirm = async (command: Command<[], unknown>) => {
    if ((await command.run()) !== undefined) onClose()
  }
  useClearedUnless(asking === 'archive', archive)
  useClearedUnless(asking === 'kill', kill)
  return (
    <>
      <ConfirmDialog
        opened={asking === 'archive'}
        onClose={onClose}
        onConfirm={() => void confirm(archive)}
        title="Archive this task?"
        confirmLabel="Archive"
        dangerous={lostWithSandbox(task.changes).length > 0}
        busy={archive.busy}
        error={archive.error}
      >
        Its sandbox is destroyed and the task disappears from the list. Its conversation, changes and files stay readable. Review comments
        that are not sent are removed.
        {published}
        <Lost task={task} />
      </ConfirmDialog>
      <ConfirmDialog
        opened={asking === 'kill'}
        onClose={onClose}
        onConfirm={() => void confirm(kill)}
        title="Kill this task?"
        confirmLabel="Kill task"
        dangerous
        busy={kill.busy}
        error={kill.error}
      >
        Its sandbox is destroyed immediately, and a running turn is stopped. The saved work and the changes stay readable, and the
        conversation for the time set by the operator (90 days by default). Review comments that are not sent are removed. The task cannot
        be continued.
        {published}
        <Lost task={task} />
      </ConfirmDialog>
    </>
  )
}

/** What only the sandbox of a task has, and what would keep it; nothing when all is saved. */
function Lost({ task }: { task: Task }) {
  const lost = lostWithSandbox(task.changes)
  if (lost.length === 0) return null
  return (
    <div className={classes.lost}>
      <strong>This is in the sandbox alone and is lost with it:</strong>
      <ul aria-label="What is lost">
        {lost.map(({ what, next }, at) => (
          <li key={at}>
            <InertLine text={`${what}.`} />
            {next !== undefined && <InertLine text={next} className="fd-muted" />}
          </li>
        ))}
      </ul>
    </div>
  )
}

import { Code } from '@foundry/client'
import { useFoundry } from '@foundry/client/react'
import { SessionState, TaskState, type Session, type Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useMediaQuery } from '@mantine/hooks'
import { useEffect, useRef } from 'react'
import { NothingThere } from '../app/NothingThere'
import { useTitle } from '../app/useTitle'
import { announce, ErrorState, PageSkeleton, StaleBanner, taskStatus } from '../ui'
import { StageList } from './header/StageList'
import { TaskHeader } from './header/TaskHeader'
import { useClearedUnless, useCommand } from '../state/command'
import { usePlace } from './model/usePlace'
import { useTask, type TaskView } from './model/useTask'
import { useViewer } from './model/useViewer'
import { panelTab, Workspace, type PanelTab } from './panel/Workspace'
import { Conversation } from './sessions/Conversation'
import { SessionTabs } from './sessions/SessionTabs'
import { useReadMarks } from './sessions/useReadMarks'
import { visibleLine } from '../ui/text/visible'
import classes from './page.module.css'

/** Width below which a panel fills the screen. */
const NARROW = '(max-width: 900px)'

/** A task: its provisioning, conversations, changes, files, processes and record. */
export function TaskPage({ organizationId, taskId }: { organizationId: string; taskId: string }) {
  const client = useFoundry()
  const view = useTask(taskId)
  if (view.task !== undefined) return <Loaded key={taskId} organizationId={organizationId} view={view} task={view.task} />
  if (view.phase === 'ended' && view.error?.code === Code.NotFound) return <NothingThere what="task" organizationId={organizationId} />
  if (view.phase === 'ended') {
    return (
      <div className={classes.alone}>
        <ErrorState error={view.error} title="The task could not be loaded" onRetry={() => client.reconnectNow()} />
      </div>
    )
  }
  return <PageSkeleton label="Loading the task" />
}

function Loaded({ organizationId, view, task }: { organizationId: string; view: TaskView; task: Task }) {
  const client = useFoundry()
  const viewer = useViewer(organizationId)
  const markOf = useReadMarks(organizationId)
  const narrow = useMediaQuery(NARROW, undefined, { getInitialValueInEffect: false }) === true
  const place = usePlace()
  const tab = panelTab(place.panel, narrow)
  const setTab = (next: PanelTab | undefined) => place.choose('panel', next ?? 'none')
  const selected = selectedSession(view, place.session)
  useTitle(visibleLine(task.title))
  useSpoken(taskStatus(task.state).word)
  const retry = useCommand('The task was not retried', (requestId: string) => client.task.retryTask({ requestId, taskId: task.taskId }))
  useClearedUnless(task.state === TaskState.ERROR, retry)
  const tabs = selected?.state === SessionState.CLOSED ? [...view.sessions, selected] : view.sessions
  const talk = (
    <div className={classes.talk}>
      <StageList task={task} retry={retry} canEdit={viewer.canEdit} />
      <SessionTabs
        task={task}
        sessions={tabs}
        closed={view.closed}
        selected={selected}
        onSelect={(sessionId) => place.choose('session', sessionId)}
        markOf={markOf}
        canEdit={viewer.canEdit}
      >
        {selected !== undefined && (
          <Conversation key={selected.sessionId} task={task} session={selected} viewer={viewer} readMark={markOf(selected.sessionId)} />
        )}
      </SessionTabs>
    </div>
  )
  return (
    <div className={classes.page}>
      <TaskHeader
        organizationId={organizationId}
        task={task}
        sessions={view.sessions}
        canEdit={viewer.canEdit}
        retry={retry}
        running={selected?.state === SessionState.RUNNING ? selected.sessionId : undefined}
        onExplain={() => setTab('explain')}
      />
      <StaleBanner phase={view.phase} since={view.since} />
      {view.phase === 'ended' && (
        <ErrorState error={view.error} title="Live updates of the task stopped" compact onRetry={() => client.reconnectNow()} />
      )}
      <Workspace
        task={task}
        sessions={[...view.sessions, ...view.closed]}
        viewer={viewer}
        talk={talk}
        tab={tab}
        onTab={setTab}
        narrow={narrow}
      />
    </div>
  )
}

/** Announces each new state of the task; the one at the opening of the page is read with the page. */
function useSpoken(word: string): void {
  const said = useRef(word)
  useEffect(() => {
    if (said.current !== word) announce(`Task ${word.toLowerCase()}`)
    said.current = word
  }, [word])
}

/** The session that is shown: the chosen one, otherwise the oldest open one, otherwise the last closed one. */
function selectedSession(view: TaskView, chosen: string | undefined): Session | undefined {
  const all = [...view.sessions, ...view.closed]
  return all.find((session) => session.sessionId === chosen) ?? view.sessions[0] ?? view.closed.at(-1)
}

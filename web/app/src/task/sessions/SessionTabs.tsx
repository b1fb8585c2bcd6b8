import { Tabs } from '@mantine/core'
import { SessionState, type Session, type Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import type { ReactNode } from 'react'
import { sessionStatus, StatusIcon, waitsForAnswer, EmptyState } from '../../ui'
import { IconMessages } from '@tabler/icons-react'
import { InertLine } from '../../ui/text/Inert'
import { NewSession } from './NewSession'
import { SessionMenu } from './SessionMenu'
import { sessionTitle } from './title'
import { isUnread } from './useReadMarks'
import classes from './sessions.module.css'

interface Props {
  task: Task
  /** Sessions with a tab: the open ones, and a closed one while it is shown. */
  sessions: readonly Session[]
  closed: readonly Session[]
  selected: Session | undefined
  onSelect: (sessionId: string) => void
  markOf: (sessionId: string) => number
  canEdit: boolean
  /** The content of the selected tab. */
  children: ReactNode
}

/** The sessions of a task as tabs; arrow keys move between them. */
export function SessionTabs({ task, sessions, closed, selected, onSelect, markOf, canEdit, children }: Props) {
  return (
    <Tabs
      value={selected?.sessionId ?? null}
      onChange={(value) => value !== null && onSelect(value)}
      keepMounted={false}
      className={classes.tabs}
      classNames={{ tab: classes.tab, panel: classes.panel }}
    >
      <div className={classes.tabBar}>
        <Tabs.List className={classes.tabList} aria-label="Sessions">
          {sessions.map((session) => (
            <Tab key={session.sessionId} session={session} unread={session !== selected && isUnread(session, markOf(session.sessionId))} />
          ))}
        </Tabs.List>
        <div className={classes.tabTools}>
          <SessionMenu session={selected} closed={closed} onSelect={onSelect} canEdit={canEdit} />
          {canEdit && (
            <NewSession
              task={task}
              open={sessions.filter((session) => session.state !== SessionState.CLOSED).length}
              onCreated={onSelect}
            />
          )}
        </div>
      </div>
      <h2 className="fd-visually-hidden">Conversation</h2>
      {selected === undefined ? (
        <EmptyState icon={IconMessages} title="No session is open" level={3}>
          Start a new session, or read a closed one from the menu.
        </EmptyState>
      ) : (
        <Tabs.Panel value={selected.sessionId}>{children}</Tabs.Panel>
      )}
    </Tabs>
  )
}

function Tab({ session, unread }: { session: Session; unread: boolean }) {
  const asks = session.pendingPermission !== undefined || session.pendingElicitation !== undefined
  const status = asks ? waitsForAnswer : sessionStatus(session.state)
  const quiet = session.state === SessionState.READY || session.state === SessionState.IDLE
  return (
    <Tabs.Tab
      value={session.sessionId}
      leftSection={quiet && status !== waitsForAnswer ? undefined : <StatusIcon status={status} size={14} />}
    >
      <InertLine text={sessionTitle(session)} className={classes.tabName} />
      {unread && <span className={classes.unread} role="img" aria-label="unread" title="Unread" />}
    </Tabs.Tab>
  )
}

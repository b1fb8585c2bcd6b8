import { Button, Select } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { IconActivity, IconLock, IconRefresh } from '@tabler/icons-react'
import type { AuditEvent, Session, Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useState } from 'react'
import { EmptyState, ErrorState, ListSkeleton, RelativeTime } from '../../ui'
import { useRead } from '../model/useRead'
import { personName, type Viewer } from '../model/useViewer'
import { InertLine, InertText } from '../text/Inert'
import { visibleLine } from '../text/visible'
import classes from './panel.module.css'

const PAGE = 50
/** Pages read for one look; a page can be short, because the record is that of the whole organization. */
const PAGES_AT_ONCE = 4

interface Props {
  task: Task
  sessions: readonly Session[]
  viewer: Viewer
}

/** Who did what to the task or to one of its sessions, newest first; for administrators of the organization. */
export default function Activity({ task, sessions, viewer }: Props) {
  if (!viewer.audits) {
    return (
      <EmptyState icon={IconLock} title="For administrators" level={3}>
        The record of who did what can be read with the role admin or owner.
      </EmptyState>
    )
  }
  return <Events task={task} sessions={sessions} viewer={viewer} />
}

function Events({ task, sessions, viewer }: Props) {
  const client = useFoundry()
  const { organizationId, taskId } = task
  const [subject, setSubject] = useState(taskId)
  const [shown, setShown] = useState(PAGE)
  const list = useRead(`${subject}@${shown}`, async (signal) => {
    const events: AuditEvent[] = []
    let pageToken = ''
    let pages = 0
    do {
      const page = await client.task.listAuditEvents({ organizationId, subject, pageSize: PAGE, pageToken }, { signal })
      events.push(...page.events)
      pageToken = page.nextPageToken
      pages++
    } while (pageToken !== '' && events.length < shown && pages < (shown / PAGE) * PAGES_AT_ONCE)
    return { events, more: pageToken !== '' }
  })
  const choices = [{ value: taskId, label: 'The task' }].concat(
    sessions.map((session) => ({ value: session.sessionId, label: `Session ${visibleLine(session.name)}` })),
  )
  return (
    <div className={classes.activity}>
      <div className={classes.processBar}>
        <Select aria-label="Whose record" data={choices} value={subject} onChange={(value) => value !== null && setSubject(value)} allowDeselect={false} size="xs" />
        <Button variant="default" leftSection={<IconRefresh size={14} />} loading={list.loading} onClick={list.reload}>
          Refresh
        </Button>
      </div>
      {list.error !== undefined && <ErrorState error={list.error} title="The activity could not be read" onRetry={list.reload} compact />}
      {list.data === undefined && list.error === undefined && <ListSkeleton rows={6} label="Reading the activity" />}
      {list.data?.events.length === 0 && <EmptyState icon={IconActivity} title="Nothing is recorded" level={3} />}
      <ol className={classes.events}>
        {list.data?.events.map((event) => (
          <Event key={String(event.sequence)} event={event} viewer={viewer} />
        ))}
      </ol>
      {list.data?.more === true && (
        <Button variant="default" loading={list.loading} onClick={() => setShown(shown + PAGE)}>
          Show older
        </Button>
      )}
    </div>
  )
}

function Event({ event, viewer }: { event: AuditEvent; viewer: Viewer }) {
  const [open, setOpen] = useState(false)
  const detailed = event.detail !== '' && event.detail !== '{}'
  const actor = event.actor.startsWith('service:') ? `Service ${event.actor.slice(8)}` : personName(event.actor, viewer)
  return (
    <li className={classes.event}>
      <div className={classes.eventLine}>
        <span>
          <strong>
            <InertLine text={actor} />
          </strong>
          {event.onBehalfOf !== '' && ` for ${event.onBehalfOf === viewer.userId ? 'you' : personName(event.onBehalfOf, viewer)}`} <code>{event.action}</code>
        </span>
        <span className="fd-muted">
          <RelativeTime time={event.createTime} />
        </span>
      </div>
      {detailed && (
        <Button size="compact-xs" variant="subtle" color="gray" aria-expanded={open} onClick={() => setOpen(!open)}>
          {open ? 'Hide facts' : 'Facts'}
        </Button>
      )}
      {open && <InertText text={readable(event.detail)} mono />}
    </li>
  )
}

function readable(detail: string): string {
  try {
    return JSON.stringify(JSON.parse(detail), null, 2)
  } catch {
    return detail
  }
}

import { Button } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { IconActivity, IconLock } from '@tabler/icons-react'
import type { AuditEvent, Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useState } from 'react'
import { EmptyState, ErrorState, ListSkeleton, RelativeTime } from '../../ui'
import { useRead } from '../model/useRead'
import { personName, type Viewer } from '../model/useViewer'
import { InertLine, InertText } from '../text/Inert'
import classes from './panel.module.css'

const PAGE = 50

/** Who did what to the task, newest first; for administrators of the organization. */
export default function Activity({ task, viewer }: { task: Task; viewer: Viewer }) {
  if (!viewer.audits) {
    return (
      <EmptyState icon={IconLock} title="For administrators" level={3}>
        The record of who did what can be read with the role admin or owner.
      </EmptyState>
    )
  }
  return <Events task={task} viewer={viewer} />
}

function Events({ task, viewer }: { task: Task; viewer: Viewer }) {
  const client = useFoundry()
  const { organizationId, taskId } = task
  const [shown, setShown] = useState(PAGE)
  const list = useRead(`${taskId}@${shown}`, async (signal) => {
    const events: AuditEvent[] = []
    let pageToken = ''
    do {
      const page = await client.task.listAuditEvents({ organizationId, subject: taskId, pageSize: PAGE, pageToken }, { signal })
      events.push(...page.events)
      pageToken = page.nextPageToken
    } while (pageToken !== '' && events.length < shown)
    return { events, more: pageToken !== '' }
  })
  if (list.error !== undefined && list.data === undefined) {
    return <ErrorState error={list.error} title="The activity could not be read" onRetry={list.reload} />
  }
  if (list.data === undefined) return <ListSkeleton rows={6} label="Reading the activity" />
  if (list.data.events.length === 0) return <EmptyState icon={IconActivity} title="Nothing is recorded" level={3} />
  return (
    <div className={classes.activity}>
      <div className={classes.processBar}>
        <span className="fd-muted">Newest first</span>
        <Button variant="default" loading={list.loading} onClick={list.reload}>
          Refresh
        </Button>
      </div>
      <ol className={classes.events}>
        {list.data.events.map((event) => (
          <Event key={String(event.sequence)} event={event} viewer={viewer} />
        ))}
      </ol>
      {list.data.more && (
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
          {event.onBehalfOf !== '' && ` for ${personName(event.onBehalfOf, viewer)}`} <code>{event.action}</code>
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

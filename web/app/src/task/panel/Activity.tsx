import { Button, Select } from '@mantine/core'
import type { Foundry } from '@foundry/client'
import { useFoundry } from '@foundry/client/react'
import { IconActivity, IconLock, IconRefresh } from '@tabler/icons-react'
import type { AuditEvent, Session, Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useState } from 'react'
import { EmptyState, ErrorState, ListSkeleton, RelativeTime } from '../../ui'
import { useRead } from '../../state/read'
import { usePersonName } from '../model/members'
import type { Viewer } from '../model/useViewer'
import { InertLine, InertText } from '../../ui/text/Inert'
import { visibleLine } from '../../ui/text/visible'
import classes from './panel.module.css'

const PAGE = 50
/** Most pages read at once; a page can be short, because the record is of the whole organization. */
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
      <EmptyState icon={IconLock} title="For admins and owners" level={3}>
        Only admins and owners of the organization can see who did what.
      </EmptyState>
    )
  }
  return <Events task={task} sessions={sessions} viewer={viewer} />
}

/** The choice of everything, besides the ids of the task and its sessions. */
const ALL = 'all'

function Events({ task, sessions, viewer }: Props) {
  const client = useFoundry()
  const { organizationId, taskId } = task
  const [chosen, setChosen] = useState(ALL)
  const [shown, setShown] = useState(PAGE)
  const subjects = chosen === ALL ? [taskId, ...sessions.map((it) => it.sessionId)] : [chosen]
  const list = useRead(`${subjects.join()}@${shown}`, async (signal) =>
    merged(await Promise.all(subjects.map((subject) => record(client, { organizationId, subject }, shown, signal)))),
  )
  const named = sessions.map((session) => ({ value: session.sessionId, label: `Session ${visibleLine(session.name)}` }))
  const choices = [{ value: ALL, label: 'Task and sessions' }, { value: taskId, label: 'Task only' }, ...named]
  const labelOf = (subject: string) => (chosen === ALL ? named.find((it) => it.value === subject)?.label : undefined)
  return (
    <div className={classes.activity}>
      <div className={classes.processBar}>
        <Select
          aria-label="Show activity of"
          data={choices}
          value={chosen}
          onChange={(value) => value !== null && setChosen(value)}
          allowDeselect={false}
          size="xs"
        />
        <Button variant="default" leftSection={<IconRefresh size={14} />} loading={list.loading} onClick={list.reload}>
          Refresh
        </Button>
      </div>
      {list.error !== undefined && <ErrorState error={list.error} title="The activity could not be loaded" onRetry={list.reload} compact />}
      {list.data === undefined && list.error === undefined && <ListSkeleton rows={6} label="Loading the activity" />}
      {list.data?.events.length === 0 && <EmptyState icon={IconActivity} title="No activity yet" level={3} />}
      <ol className={classes.events}>
        {list.data?.events.map((event) => (
          <Event key={String(event.sequence)} event={event} about={labelOf(event.subject)} viewer={viewer} />
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

interface Record {
  readonly events: readonly AuditEvent[]
  /** Whether there are older events. */
  readonly more: boolean
}

/** The newest events about one entity. */
async function record(
  client: Foundry,
  about: { organizationId: string; subject: string },
  shown: number,
  signal: AbortSignal,
): Promise<Record> {
  const events: AuditEvent[] = []
  let pageToken = ''
  let pages = 0
  do {
    const page = await client.task.listAuditEvents({ ...about, pageSize: PAGE, pageToken }, { signal })
    events.push(...page.events)
    pageToken = page.nextPageToken
    pages++
  } while (pageToken !== '' && events.length < shown && pages < (shown / PAGE) * PAGES_AT_ONCE)
  return { events, more: pageToken !== '' }
}

/** Merges several records, newest first, back to the time from which all of them are loaded. */
export function merged(records: readonly Record[]): Record {
  const ends = records.filter((it) => it.more).map((it) => it.events.at(-1)?.sequence ?? 0n)
  // biome-ignore lint/complexity/useMathMinMax: Math.max takes no bigint
  const end = ends.reduce((a, b) => (a > b ? a : b), 0n)
  const events = records.flatMap((it) => it.events).filter((it) => it.sequence >= end)
  return { events: events.sort((a, b) => (a.sequence < b.sequence ? 1 : -1)), more: ends.length > 0 }
}

/** An event; `about` names its subject where that is not clear. */
function Event({ event, about, viewer }: { event: AuditEvent; about: string | undefined; viewer: Viewer }) {
  const person = usePersonName(event.actor, viewer)
  const behalf = usePersonName(event.onBehalfOf, viewer)
  const [open, setOpen] = useState(false)
  const detailed = event.detail !== '' && event.detail !== '{}'
  const actor = event.actor.startsWith('service:') ? `Service ${event.actor.slice(8)}` : person
  return (
    <li className={classes.event}>
      <div className={classes.eventLine}>
        <span>
          <strong>
            <InertLine text={actor} />
          </strong>
          {event.onBehalfOf !== '' && ` for ${event.onBehalfOf === viewer.userId ? 'you' : behalf}`} <code>{event.action}</code>
          {about !== undefined && <span className="fd-muted"> · {about}</span>}
        </span>
        <span className="fd-muted">
          <RelativeTime time={event.createTime} ago />
        </span>
      </div>
      {detailed && (
        <Button size="compact-xs" variant="subtle" color="gray" aria-expanded={open} onClick={() => setOpen(!open)}>
          {open ? 'Hide details' : 'Details'}
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

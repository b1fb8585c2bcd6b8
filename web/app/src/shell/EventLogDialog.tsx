import { Button, Group, Modal } from '@mantine/core'
import { useConnection, useEventLog, useFoundry } from '@foundry/client/react'
import type { LogEvent } from '@foundry/client'
import { CopyButton, Elapsed, EmptyState, useNarrow } from '../ui'
import classes from './EventLogDialog.module.css'

/** The name of a topic, for example `task`, from its key, which has its rpc and its request. */
function topicName(key: string | undefined): string {
  if (key === undefined) return 'connection'
  const method = /\/Watch(\w+)/.exec(key)?.[1]
  return method === undefined ? key.slice(0, 40) : method.replace(/(?<=[a-z])(?=[A-Z])/g, ' ').toLowerCase()
}

function line(event: LogEvent): string {
  return [new Date(event.at).toISOString(), event.what, topicName(event.topic), event.detail].join('\t')
}

/** The log that explains why data was loaded, lost or refreshed; newest first. */
export function EventLogDialog({ onClose }: { onClose: () => void }) {
  const client = useFoundry()
  const connection = useConnection()
  const events = useEventLog().toReversed()
  return (
    <Modal opened onClose={onClose} title="Event log" size="xl" fullScreen={useNarrow()}>
      <Group justify="space-between" mb="sm">
        <span className="fd-muted">
          Connection: {connection.phase} for <Elapsed since={connection.since} />
        </span>
        <Group gap="xs">
          <CopyButton value={events.map(line).join('\n')} label="Copy the log" />
          <Button variant="default" onClick={() => client.reconnectNow()}>
            Reconnect now
          </Button>
        </Group>
      </Group>
      {events.length === 0 ? (
        <EmptyState level={3} title="No events yet" />
      ) : (
        <div className={classes.scroller} tabIndex={0} role="region" aria-label="Events">
          <table className={classes.table}>
            <thead>
              <tr>
                <th scope="col">Time</th>
                <th scope="col">Event</th>
                <th scope="col">Data</th>
                <th scope="col">Reason</th>
              </tr>
            </thead>
            <tbody>
              {events.map((event, index) => (
                <tr key={events.length - index}>
                  <td className={classes.time}>{new Date(event.at).toLocaleTimeString()}</td>
                  <td className={classes.what}>{event.what}</td>
                  <td className={classes.what}>{topicName(event.topic)}</td>
                  <td>{event.detail}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Modal>
  )
}

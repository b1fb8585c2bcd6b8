import { Button } from '@mantine/core'
import { useConnection, useFoundry } from '@foundry/client/react'
import { IconCloudOff, IconHistory, IconPlugConnectedX, IconRefresh, type Icon } from '@tabler/icons-react'
import type { FoundryError, TopicPhase } from '@foundry/client'
import { useEffect, type ReactNode } from 'react'
import { announce } from './Announcer'
import classes from './Banner.module.css'
import { Countdown, Elapsed, RelativeTime } from './Clocks'
import { errorText, sentence } from './errors'
import { useNow } from './time'

/** How long the connection may be lost before the page shows it, in milliseconds. */
const QUIET_BREAK = 1500

interface BannerProps {
  /** Name of the landmark; default "Notice". */
  label?: string
  tone: 'wait' | 'error' | 'busy'
  icon: Icon
  children: ReactNode
  action?: ReactNode
}

/** A line across the page about something that concerns all of it. */
export function Banner({ label = 'Notice', tone, icon: Glyph, children, action }: BannerProps) {
  return (
    <section aria-label={label} className={classes.banner} data-tone={tone}>
      <Glyph size={16} aria-hidden className={classes.icon} />
      <div className={classes.text}>{children}</div>
      {action}
    </section>
  )
}

/** Shows that the connection is lost, since when, and the next attempt; nothing while all is well. */
export function ConnectionBanner() {
  const connection = useConnection()
  const broken = connection.phase === 'reconnecting' || connection.phase === 'offline'
  const spoken = { reconnecting: 'Connection lost, reconnecting', offline: 'Offline', open: 'Connected' }
  const word = connection.phase in spoken ? spoken[connection.phase as keyof typeof spoken] : ''
  useEffect(() => {
    if (word !== '') announce(word)
  }, [word])
  if (connection.phase === 'closed' && connection.error !== undefined) return <Refused error={connection.error} />
  return broken ? <Broken since={connection.since} /> : null
}

/** The server refuses the stream, and there is no further attempt. */
function Refused({ error }: { error: FoundryError }) {
  const text = errorText(error)
  useEffect(() => announce(`Connection refused. ${text.message}`, true), [text.message])
  return (
    <Banner label="Connection" tone="error" icon={IconPlugConnectedX} action={<ReconnectButton />}>
      The server refused the connection. Data may be out of date. {text.message} {text.nextAction !== '' && sentence(text.nextAction)}{' '}
      <code>{text.reason}</code>
    </Banner>
  )
}

function ReconnectButton() {
  const client = useFoundry()
  return (
    <Button size="compact-xs" variant="default" leftSection={<IconRefresh size={12} />} onClick={() => client.reconnectNow()}>
      Reconnect now
    </Button>
  )
}

function Broken({ since }: { since: number }) {
  const connection = useConnection()
  const now = useNow()
  if (connection.phase === 'offline') {
    return (
      <Banner label="Connection" tone="wait" icon={IconCloudOff}>
        You are offline (for <Elapsed since={since} />
        ). Data may be out of date. Updates resume when the network is back.
      </Banner>
    )
  }
  if (now - since < QUIET_BREAK && connection.attempt <= 1) return null
  return (
    <Banner label="Connection" tone="wait" icon={IconPlugConnectedX} action={<ReconnectButton />}>
      Connection lost. Data may be out of date.{' '}
      {connection.retryAt === undefined ? 'Reconnecting…' : <NextAttempt at={connection.retryAt} />}
    </Banner>
  )
}

function NextAttempt({ at }: { at: number }) {
  return (
    <>
      Next attempt: <Countdown to={at} />
    </>
  )
}

/**
 * Shows that a view's data may be old; nothing while it is live, or while the connection's own banner shows it for
 * all views.
 */
export function StaleBanner({ phase, since }: { phase: TopicPhase; since: number }) {
  const now = useNow()
  const connection = useConnection()
  if (connection.phase === 'reconnecting' || connection.phase === 'offline') return null
  if (connection.phase === 'closed' && connection.error !== undefined) return null
  if (phase !== 'stale' || now - since < QUIET_BREAK) return null
  return (
    <Banner tone="wait" icon={IconHistory}>
      Data may be out of date. Last update: <RelativeTime time={since} ago />.
    </Banner>
  )
}

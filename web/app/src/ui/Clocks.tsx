import { agoText, fullTime, millis, spanText, useNow, type Moment } from './time'

/** When something happened, as a distance that keeps itself current; the full time shows on hover. */
export function RelativeTime({ time, prefix }: { time: Moment | undefined; prefix?: string }) {
  const now = useNow(15_000)
  const at = millis(time)
  if (at === undefined) return null
  const text = agoText(at, now + 15_000)
  return (
    <time dateTime={new Date(at).toISOString()} title={fullTime(at)}>
      {prefix === undefined ? text : `${prefix} ${text}`}
    </time>
  )
}

/** How long something runs or ran, counting each second while `until` is not set. */
export function Elapsed({ since, until }: { since: Moment | undefined; until?: Moment }) {
  const start = millis(since)
  if (start === undefined) return null
  const end = millis(until)
  return end === undefined ? <Counting start={start} /> : <Span ms={end - start} title={fullTime(start)} />
}

/** How long it is until something; "now" once it is past. */
export function Countdown({ to }: { to: Moment | undefined }) {
  const now = useNow()
  const end = millis(to)
  if (end === undefined) return null
  return <span title={fullTime(end)}>{end <= now ? 'now' : spanText(end - now + 999)}</span>
}

function Counting({ start }: { start: number }) {
  const now = useNow()
  return <Span ms={now - start} title={fullTime(start)} />
}

function Span({ ms, title }: { ms: number; title: string }) {
  return (
    <span title={`since ${title}`} style={{ fontVariantNumeric: 'tabular-nums' }}>
      {spanText(ms)}
    </span>
  )
}

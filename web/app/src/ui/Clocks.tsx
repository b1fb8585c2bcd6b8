import { agoPhrase, agoText, fullTime, millis, spanText, useNow, type Moment } from './time'
import classes from './Clocks.module.css'

/** Distances are in minutes and more, so they need no update every second. */
const STEP = 15_000

/**
 * When something happened, as a distance that is kept up to date; the full time shows on hover. `ago` writes it for a
 * sentence: "4 min ago", "just now"; `prefix` comes before it.
 */
export function RelativeTime({ time, ago = false, prefix }: { time: Moment | undefined; ago?: boolean; prefix?: string }) {
  const now = useNow(STEP)
  const at = millis(time)
  if (at === undefined) return null
  // Times within the present step count as past.
  const text = ago ? agoPhrase(at, now + STEP) : agoText(at, now + STEP)
  return (
    <time dateTime={new Date(at).toISOString()} title={fullTime(at)}>
      {prefix !== undefined && `${prefix} `}
      <span className={ago ? classes.ago : classes.short}>{text}</span>
    </time>
  )
}

/** How long something takes or took; counts seconds while `until` is not set. */
export function Elapsed({ since, until }: { since: Moment | undefined; until?: Moment }) {
  const start = millis(since)
  if (start === undefined) return null
  const end = millis(until)
  return end === undefined ? <Counting start={start} /> : <Span ms={end - start} title={fullTime(start)} />
}

/** The time until something; "now" when it is past. */
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

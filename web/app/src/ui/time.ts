import type { Timestamp } from '@bufbuild/protobuf/wkt'
import { useSyncExternalStore } from 'react'

/** A point in time: milliseconds since the epoch, a Date, or a protobuf timestamp. */
export type Moment = number | Date | Timestamp

/** Milliseconds since the epoch; undefined stays undefined. */
export function millis(moment: Moment): number
export function millis(moment: Moment | undefined): number | undefined
export function millis(moment: Moment | undefined): number | undefined {
  if (moment === undefined || typeof moment === 'number') return moment
  if (moment instanceof Date) return moment.getTime()
  return Number(moment.seconds) * 1000 + Math.floor(moment.nanos / 1_000_000)
}

const SECOND = 1000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

/** A duration, as short as possible: `4 s`, `2 min 5 s`, `3 h 20 min`, `5 d`. Negative ones count as 0. */
export function spanText(span: number): string {
  const ms = Math.max(0, span)
  if (ms < MINUTE) return `${Math.floor(ms / SECOND)} s`
  if (ms < HOUR) return withRest(Math.floor(ms / MINUTE), 'min', Math.floor((ms % MINUTE) / SECOND), 's')
  if (ms < DAY) return withRest(Math.floor(ms / HOUR), 'h', Math.floor((ms % HOUR) / MINUTE), 'min')
  return withRest(Math.floor(ms / DAY), 'd', Math.floor((ms % DAY) / HOUR), 'h')
}

function withRest(whole: number, unit: string, rest: number, restUnit: string): string {
  return rest === 0 ? `${whole} ${unit}` : `${whole} ${unit} ${rest} ${restUnit}`
}

/** The time since a moment: `now`, `4 min`, `3 h`, `2 d`, then the date. */
export function agoText(moment: number, now: number): string {
  const ms = now - moment
  if (ms < 45 * SECOND) return 'now'
  if (ms < HOUR) return `${Math.max(1, Math.round(ms / MINUTE))} min`
  if (ms < DAY) return `${Math.round(ms / HOUR)} h`
  if (ms < 14 * DAY) return `${Math.round(ms / DAY)} d`
  return new Date(moment).toLocaleDateString(undefined, { year: 'numeric', month: 'short', day: 'numeric' })
}

/** The same for a sentence: `just now`, `4 min ago`; dates as they are. */
export function agoPhrase(moment: number, now: number): string {
  const text = agoText(moment, now)
  if (text === 'now') return 'just now'
  return now - moment < 14 * DAY ? `${text} ago` : text
}

/** Date and time in full, for tooltips and details. */
export function fullTime(moment: number): string {
  return new Date(moment).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' })
}

const listeners = new Set<() => void>()
let timer: ReturnType<typeof setInterval> | undefined
let now = Date.now()

function tick(): void {
  now = Date.now()
  for (const listener of listeners) listener()
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener)
  if (timer === undefined) {
    now = Date.now()
    timer = setInterval(tick, SECOND)
  }
  return () => {
    listeners.delete(listener)
    if (listeners.size > 0 || timer === undefined) return
    clearInterval(timer)
    timer = undefined
  }
}

/** The time in milliseconds, updated every second (or every `step`) by one timer for the whole page. */
export function useNow(step: number = SECOND): number {
  const read = () => Math.floor((timer === undefined ? Date.now() : now) / step) * step
  return useSyncExternalStore(subscribe, read)
}

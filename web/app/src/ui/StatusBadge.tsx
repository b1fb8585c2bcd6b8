import classes from './StatusBadge.module.css'
import type { Status } from './status'

/** A state as icon and word on a tinted background. */
export function StatusBadge({ status, size = 'sm' }: { status: Status; size?: 'xs' | 'sm' }) {
  return (
    <span className={classes.badge} data-tone={status.tone} data-size={size}>
      <StatusIcon status={status} size={size === 'xs' ? 12 : 14} decorative />
      {status.word}
    </span>
  )
}

/** A state as icon alone, for narrow rows; the word is its name for screen readers and on hover. */
export function StatusIcon({ status, size = 16, decorative = false }: { status: Status; size?: number; decorative?: boolean }) {
  const Glyph = status.icon
  const named = decorative ? { 'aria-hidden': true } : { role: 'img', 'aria-label': status.word, title: status.word }
  return (
    <span className={classes.icon} data-tone={status.tone} {...named}>
      <Glyph size={size} stroke={2} aria-hidden className={status.spins === true ? classes.spins : undefined} />
    </span>
  )
}

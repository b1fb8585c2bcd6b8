import { Skeleton } from '@mantine/core'
import classes from './Skeletons.module.css'

const widths = ['62%', '48%', '74%', '55%', '67%', '42%', '70%', '58%']

/** Placeholder rows for a list while it loads. */
export function ListSkeleton({ rows = 6, label = 'Loading' }: { rows?: number; label?: string }) {
  return (
    <div role="status" aria-label={label} className={classes.list}>
      {Array.from({ length: rows }, (_, row) => (
        <div key={row} className={classes.row}>
          <Skeleton circle height={16} width={16} />
          <div className={classes.lines}>
            <Skeleton height={10} width={widths[row % widths.length]} />
            <Skeleton height={8} width={widths[(row + 3) % widths.length]} />
          </div>
        </div>
      ))}
    </div>
  )
}

/** Placeholder lines for text while it loads. */
export function TextSkeleton({ lines = 3, label = 'Loading' }: { lines?: number; label?: string }) {
  return (
    <div role="status" aria-label={label} className={classes.lines}>
      {Array.from({ length: lines }, (_, line) => (
        <Skeleton key={line} height={11} width={widths[line % widths.length]} />
      ))}
    </div>
  )
}

/** Placeholders for a page while its heading and content load. */
export function PageSkeleton({ label = 'Loading' }: { label?: string }) {
  return (
    <div role="status" aria-label={label} className={classes.page}>
      <h1 className="fd-visually-hidden">{label}</h1>
      <Skeleton height={18} width="32%" />
      <Skeleton height={11} width="54%" />
      <Skeleton height={120} mt={8} />
      <Skeleton height={120} />
    </div>
  )
}

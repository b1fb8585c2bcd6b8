import { defaultRangeExtractor, useVirtualizer } from '@tanstack/react-virtual'
import { useEffect, useRef, type ReactNode } from 'react'

interface Props<T> {
  items: readonly T[]
  /** Height of a row in pixels; all rows of one answer have the same height. */
  rowHeight: (item: T, index: number) => number
  keyOf: (item: T, index: number) => string
  render: (item: T, index: number) => ReactNode
  /** Row to keep in view, for example the selected or focused one. */
  activeIndex?: number
  /** Row that is rendered at any scroll position, so that Tab can reach it. */
  keptIndex?: number
  /** Rows rendered beyond the visible ones; default 12. */
  overscan?: number
  className?: string
  /** Attributes of the scrolling element: role, label, key handlers. */
  containerProps?: React.HTMLAttributes<HTMLDivElement>
}

/** A list that renders only the rows on the screen; keeps its scroll position while items change. */
export function VirtualList<T>(props: Props<T>) {
  const { items, rowHeight, keyOf, render, activeIndex, keptIndex, overscan = 12, className, containerProps } = props
  const scroller = useRef<HTMLDivElement>(null)
  const rows = useVirtualizer({
    count: items.length,
    getScrollElement: () => scroller.current,
    estimateSize: (index) => rowHeight(items[index] as T, index),
    getItemKey: (index) => keyOf(items[index] as T, index),
    overscan,
    rangeExtractor: (range) => withRow(defaultRangeExtractor(range), keptIndex, items.length),
    initialRect: { width: 300, height: 600 },
  })
  const active = activeIndex === undefined ? undefined : items[activeIndex]
  const activeKey = active === undefined || activeIndex === undefined ? undefined : keyOf(active, activeIndex)
  // biome-ignore lint/correctness/useExhaustiveDependencies: only a new active row moves the list, not a change of its items or of their order
  useEffect(() => {
    if (activeIndex !== undefined && activeIndex >= 0) rows.scrollToIndex(activeIndex, { align: 'auto' })
  }, [activeKey])
  return (
    <div ref={scroller} className={className} style={{ overflowY: 'auto', contain: 'strict' }} {...containerProps}>
      <div role="presentation" style={{ height: rows.getTotalSize(), position: 'relative', width: '100%' }}>
        {rows.getVirtualItems().map((row) => (
          <div
            key={row.key}
            role="presentation"
            style={{ position: 'absolute', insetInline: 0, top: 0, height: row.size, transform: `translateY(${row.start}px)` }}
          >
            {render(items[row.index] as T, row.index)}
          </div>
        ))}
      </div>
    </div>
  )
}

/** Adds a row to the visible ones, in order. */
function withRow(shown: number[], row: number | undefined, count: number): number[] {
  if (row === undefined || row < 0 || row >= count || shown.includes(row)) return shown
  return row < (shown[0] ?? 0) ? [row, ...shown] : [...shown, row]
}

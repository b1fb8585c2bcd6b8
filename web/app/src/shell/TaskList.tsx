import { useRef, useState, type KeyboardEvent } from 'react'
import { useRoute } from 'wouter'
import { rowKey, type ListRow } from '../state/taskList'
import { useStillWhilePressed, VirtualList } from '../ui'
import { RepositoryRow } from './RepositoryRow'
import classes from './TaskList.module.css'
import { TaskRow } from './TaskRow'

const TASK_HEIGHT = 52
const REPOSITORY_HEIGHT = 34

function heightOf(row: ListRow): number {
  return row.kind === 'task' ? TASK_HEIGHT : REPOSITORY_HEIGHT
}

/** The row to which an arrow key moves. */
export function moved(from: number, key: string, count: number): number | undefined {
  const to = { ArrowDown: from + 1, ArrowUp: from - 1, Home: 0, End: count - 1, PageDown: from + 10, PageUp: from - 10 }[key]
  return to === undefined ? undefined : Math.min(count - 1, Math.max(0, to))
}

/** The rows of repositories and tasks; one of them is in the tab order, arrow keys move between them. */
export function TaskList({ rows: newest }: { rows: readonly ListRow[] }) {
  // A task that appears or moves up while a row is pressed takes its place after the release.
  const { still: rows, onPointerDown } = useStillWhilePressed(newest)
  const [, task] = useRoute('/o/:organizationId/t/:taskId')
  const [, repository] = useRoute('/o/:organizationId/r/:repositoryId')
  const selected = task ? `task/${task.taskId}` : repository ? `repository/${repository.repositoryId}` : undefined
  const [focused, setFocused] = useState<string>()
  // The row that keys have reached since the last choice. A press also gives focus, but must not scroll the list.
  const [led, setLed] = useState<{ to: string; from: string | undefined }>()
  const list = useRef<HTMLDivElement>(null)
  const index = (key: string | undefined) => (key === undefined ? -1 : rows.findIndex((row) => rowKey(row) === key))
  const active = Math.max(index(focused) >= 0 ? index(focused) : index(selected), 0)
  const followed = index(led !== undefined && led.from === selected ? led.to : selected)
  const onKeyDown = (event: KeyboardEvent) => {
    const to = moved(active, event.key, rows.length)
    const row = to === undefined ? undefined : rows[to]
    if (row === undefined || event.altKey || event.ctrlKey || event.metaKey) return
    event.preventDefault()
    const key = rowKey(row)
    setFocused(key)
    setLed({ to: key, from: selected })
    // The row may not be rendered yet.
    requestAnimationFrame(() => requestAnimationFrame(() => focusRow(list.current, key)))
  }
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: handles keys that bubble up from its rows
    <div ref={list} className={classes.list} onKeyDown={onKeyDown} onPointerDown={onPointerDown} onBlur={() => setFocused(undefined)}>
      <VirtualList
        items={rows}
        rowHeight={heightOf}
        keyOf={rowKey}
        activeIndex={followed === -1 ? undefined : followed}
        keptIndex={active}
        className={classes.scroller}
        containerProps={{ role: 'list', 'aria-label': 'Tasks' }}
        render={(row, at) => (
          <div
            role="listitem"
            aria-posinset={at + 1}
            aria-setsize={rows.length}
            className={classes.item}
            onFocus={() => setFocused(rowKey(row))}
          >
            <Row row={row} selected={rowKey(row) === selected} tabIndex={at === active ? 0 : -1} />
          </div>
        )}
      />
    </div>
  )
}

function focusRow(list: HTMLElement | null, key: string): void {
  const row = list?.querySelector<HTMLElement>(`[data-row="${CSS.escape(key)}"]`)
  row?.focus({ preventScroll: true })
  // Without a layout there is nothing to scroll.
  row?.scrollIntoView?.({ block: 'nearest' })
}

function Row({ row, selected, tabIndex }: { row: ListRow; selected: boolean; tabIndex: number }) {
  if (row.kind === 'task') return <TaskRow row={row} selected={selected} tabIndex={tabIndex} />
  return <RepositoryRow row={row} selected={selected} tabIndex={tabIndex} />
}

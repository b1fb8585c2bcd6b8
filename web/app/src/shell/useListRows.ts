import { useMemo, useSyncExternalStore } from 'react'
import { useOrganization } from '../state/organization'
import { listRows, type ListOrder, type ListRow } from '../state/taskList'

/** Filter and order of the list; shared by sidebar, drawer and shortcuts. */
interface ListChoice {
  readonly filter: string
  readonly order: ListOrder
}

const KEY = 'foundry-list-order'

function storedOrder(): ListOrder {
  return typeof localStorage !== 'undefined' && localStorage.getItem(KEY) === 'recent' ? 'recent' : 'repository'
}

let choice: ListChoice = { filter: '', order: storedOrder() }
const listeners = new Set<() => void>()

function subscribe(listener: () => void): () => void {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

function change(next: Partial<ListChoice>): void {
  choice = { ...choice, ...next }
  if (next.order !== undefined) localStorage.setItem(KEY, next.order)
  for (const listener of listeners) listener()
}

/** Sets the filter of the list. */
export function setFilter(filter: string): void {
  change({ filter })
}

/** Sets the order of the list, and stores it in this browser. */
export function setOrder(order: ListOrder): void {
  change({ order })
}

/** The rows of the task list in the chosen order, filtered. */
export function useListRows(): { rows: readonly ListRow[] } & ListChoice {
  const { repositories, tasks, user, userKnown } = useOrganization()
  const { filter, order } = useSyncExternalStore(subscribe, () => choice)
  const rows = useMemo(
    () => listRows({ repositories, tasks, user, userKnown, filter, order }),
    [repositories, tasks, user, userKnown, filter, order],
  )
  return { rows, filter, order }
}

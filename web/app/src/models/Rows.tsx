import { ActionIcon, Button, Input } from '@mantine/core'
import { IconPlus, IconX } from '@tabler/icons-react'
import { useId, useRef, type ReactNode } from 'react'
import classes from './ModelsPage.module.css'

interface Props<T> {
  /** Of all of them, for example "Headers", and of one. */
  title: string
  one: string
  about: ReactNode
  rows: readonly T[]
  onRows: (rows: T[]) => void
  /** Makes an empty one; undefined where none can be added. */
  fresh?: () => T
  error: string | undefined
  /** The fields of one; `isFresh` = it was just added. */
  children: (row: T, change: (change: Partial<T>) => void, isFresh: boolean) => ReactNode
}

/** A list in a form, to which rows are added and from which they are removed. */
export function Rows<T extends { readonly id: string }>({ title, one, about, rows, onRows, fresh, error, children }: Props<T>) {
  const id = useId()
  const latest = useRef('')
  const group = useRef<HTMLDivElement>(null)
  const add = (make: () => T) => {
    const row = make()
    latest.current = row.id
    onRows([...rows, row])
  }
  const remove = (gone: T) => {
    onRows(rows.filter((it) => it.id !== gone.id))
    // The button that had the focus goes with its row.
    group.current?.focus()
  }
  return (
    <div ref={group} role="group" tabIndex={-1} aria-labelledby={id} aria-describedby={`${id}-about`} className={classes.rows}>
      <Input.Label id={id} labelElement="div" size="sm">
        {title}
      </Input.Label>
      <Input.Description id={`${id}-about`}>{about}</Input.Description>
      {rows.map((row, at) => (
        <div key={row.id} role="group" aria-label={`${one} ${at + 1}`} className={classes.row}>
          {children(row, (change) => onRows(rows.map((it) => (it.id === row.id ? { ...it, ...change } : it))), row.id === latest.current)}
          <ActionIcon onClick={() => remove(row)} aria-label={`Remove ${one.toLowerCase()} ${at + 1}`}>
            <IconX size={15} />
          </ActionIcon>
        </div>
      ))}
      {error !== undefined && <Input.Error role="alert">{error}</Input.Error>}
      {fresh !== undefined && (
        <Button variant="default" size="xs" leftSection={<IconPlus size={13} />} onClick={() => add(fresh)} className={classes.add}>
          Add {one.toLowerCase()}
        </Button>
      )}
    </div>
  )
}

import { ActionIcon, Button, Input } from '@mantine/core'
import { IconPlus, IconX } from '@tabler/icons-react'
import { useId, useRef, type ReactNode } from 'react'
import classes from './ModelsPage.module.css'

interface Props<T> {
  /** Title of the list, for example "Headers", and the name of one row. */
  title: string
  one: string
  about: string
  /** Shown while there are none. */
  none?: string
  rows: readonly T[]
  onRows: (rows: T[]) => void
  /** Makes an empty row. */
  fresh: () => T
  error: string | undefined
  /** The fields of a row; `isFresh` = it was just added. */
  children: (row: T, change: (change: Partial<T>) => void, isFresh: boolean) => ReactNode
}

/** A name within a sentence: “Header” becomes lower case, “MCP server” does not. */
function inSentence(name: string): string {
  return /^[A-Z][a-z]/.test(name) ? `${name.charAt(0).toLowerCase()}${name.slice(1)}` : name
}

/** A list in a form, with buttons that add and remove rows. */
export function Rows<T extends { readonly id: string }>({ title, one, about, none, rows, onRows, fresh, error, children }: Props<T>) {
  const id = useId()
  const latest = useRef('')
  const group = useRef<HTMLDivElement>(null)
  const add = () => {
    const row = fresh()
    latest.current = row.id
    onRows([...rows, row])
  }
  const remove = (gone: T) => {
    onRows(rows.filter((it) => it.id !== gone.id))
    // The button that had the focus is removed with its row.
    group.current?.focus()
  }
  return (
    <div ref={group} role="group" tabIndex={-1} aria-labelledby={id} aria-describedby={`${id}-about`} className={classes.rows}>
      <Input.Label id={id} labelElement="div" size="sm">
        {title}
      </Input.Label>
      <Input.Description id={`${id}-about`}>{about}</Input.Description>
      {none !== undefined && rows.length === 0 && <div className={classes.none}>{none}</div>}
      {rows.map((row, at) => (
        <div key={row.id} role="group" aria-label={`${one} ${at + 1}`} className={classes.row}>
          {children(row, (change) => onRows(rows.map((it) => (it.id === row.id ? { ...it, ...change } : it))), row.id === latest.current)}
          <ActionIcon onClick={() => remove(row)} aria-label={`Remove ${inSentence(one)} ${at + 1}`}>
            <IconX size={15} />
          </ActionIcon>
        </div>
      ))}
      {error !== undefined && <Input.Error role="alert">{error}</Input.Error>}
      <Button variant="default" size="xs" leftSection={<IconPlus size={13} />} onClick={add} className={classes.add}>
        Add {inSentence(one)}
      </Button>
    </div>
  )
}

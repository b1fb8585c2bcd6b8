import { Button } from '@mantine/core'
import { IconPlus } from '@tabler/icons-react'
import { useId, type ReactNode } from 'react'
import type { Read } from '../state/read'
import { EmptyState, ErrorState, TextSkeleton } from '../ui'
import { useFrame } from '../shell/frame'
import classes from './ModelsPage.module.css'

interface Props<T> {
  title: string
  /** The purpose of the entries, in one or two sentences. */
  about: string
  /** Text of the button that adds an entry. */
  addLabel: string
  onAdd: () => void
  read: Read<T[]>
  /** Shown while there are none. */
  none: string
  /** One entry; an item of a list. */
  children: (entry: T) => ReactNode
}

/** A section with heading, button, and a list with its loading, empty and error states. */
export function Section<T>({ title, about, addLabel, onAdd, read, none, children }: Props<T>) {
  const { canAdminister } = useFrame()
  const id = useId()
  return (
    <section aria-labelledby={id} className={classes.section}>
      <div className={classes.line}>
        <h2 id={id}>{title}</h2>
        {canAdminister && (
          <Button variant="default" leftSection={<IconPlus size={14} />} onClick={onAdd}>
            {addLabel}
          </Button>
        )}
      </div>
      <p className={classes.about}>{about}</p>
      {read.error !== undefined && (
        <ErrorState error={read.error} title={`The ${title.toLowerCase()} could not be loaded`} onRetry={read.reload} compact />
      )}
      {read.data === undefined && read.error === undefined && <TextSkeleton lines={4} label={`Loading ${title.toLowerCase()}`} />}
      {read.data?.length === 0 && (
        <EmptyState level={3} title={`No ${title.toLowerCase()} yet`}>
          {none}
        </EmptyState>
      )}
      {read.data !== undefined && read.data.length > 0 && (
        <ul aria-labelledby={id} className={classes.list}>
          {read.data.map(children)}
        </ul>
      )}
    </section>
  )
}

/** A name and a value of an entry. */
export function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  )
}

import { Stack } from '@mantine/core'
import { useEffect, useState, type ReactNode } from 'react'
import type { Problems } from './useSettings'
import classes from './ModelsPage.module.css'

interface Props {
  /** Title of the part. */
  title: string
  /** The problems of the form when it was last sent; another object each time. */
  problems: Problems
  /** Whether a problem is in this part, which unfolds it. */
  wrong: boolean
  children: ReactNode
}

/** A folded part of a form, for rarely used fields. */
export function More({ title, problems, wrong, children }: Props) {
  const [open, setOpen] = useState(false)
  useEffect(() => {
    if (wrong) setOpen(true)
  }, [problems, wrong])
  return (
    <details className={classes.more} open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{title}</summary>
      <Stack gap="md" pt="sm">
        {children}
      </Stack>
    </details>
  )
}

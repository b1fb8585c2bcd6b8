import { Stack } from '@mantine/core'
import { useEffect, useState, type ReactNode } from 'react'
import type { Problems } from './useSettings'
import classes from './ModelsPage.module.css'

interface Props {
  /** What is in it. */
  title: string
  /** What was wrong with the form when it was sent last; another object each time. */
  problems: Problems
  /** Whether something in here is wrong, which opens it. */
  wrong: boolean
  children: ReactNode
}

/** A part of a form that is folded up, for what few people need. */
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

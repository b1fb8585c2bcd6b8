import type { Icon } from '@tabler/icons-react'
import type { ReactNode } from 'react'
import classes from './EmptyState.module.css'

interface Props {
  icon?: Icon
  title: string
  /** What would be here, and how it gets here. */
  children?: ReactNode
  /** Buttons. */
  actions?: ReactNode
  /** Heading level; 1 where it is the page, default 2. */
  level?: 1 | 2 | 3
}

/** An empty place, with what to do about it. */
export function EmptyState({ icon: Glyph, title, children, actions, level = 2 }: Props) {
  const Heading = `h${level}` as const
  return (
    <div className={classes.empty} data-page={level === 1}>
      {Glyph !== undefined && <Glyph size={28} stroke={1.5} aria-hidden className={classes.icon} />}
      <Heading className={classes.title}>{title}</Heading>
      {children !== undefined && <div className={classes.text}>{children}</div>}
      {actions !== undefined && <div className={classes.actions}>{actions}</div>}
    </div>
  )
}

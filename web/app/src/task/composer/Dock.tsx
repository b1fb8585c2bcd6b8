import type { Icon } from '@tabler/icons-react'
import { type ComponentProps, type KeyboardEvent, type ReactNode, useEffect, useRef } from 'react'
import { announce, ErrorState } from '../../ui'
import { visibleLine } from '../../ui/text/visible'
import classes from './composer.module.css'
import { useFocusAfter } from './useFocusAfter'

interface Props {
  /** What the agent does, as in "The agent is asking a question". */
  title: string
  icon: Icon
  /** The question's id, and its text for the announcement. */
  question: { id: string; text: string }
  /** The text as it is shown. */
  what: ReactNode
  /** Why the last answer was not sent. */
  error: ComponentProps<typeof ErrorState>['error'] | undefined
  /** Whether the person may answer. */
  canEdit: boolean
  onKeyDown?: (event: KeyboardEvent) => void
  /** How to answer. */
  children: ReactNode
}

/** A question of the agent above the composer, announced once. */
export function Dock({ title, icon: Glyph, question, what, error, canEdit, onKeyDown, children }: Props) {
  const dock = useRef<HTMLElement>(null)
  const focus = useFocusAfter(dock)
  // biome-ignore lint/correctness/useExhaustiveDependencies: a question is announced once, when it arrives
  useEffect(() => announce(`${title}: ${visibleLine(question.text)}`), [question.id])
  return (
    <section ref={dock} className={classes.dock} aria-label={title} onKeyDown={onKeyDown} {...focus}>
      <div className={classes.dockHead}>
        <Glyph size={17} aria-hidden />
        <div>
          <div className={classes.dockTitle}>{title}</div>
          {what}
        </div>
      </div>
      {error !== undefined && <ErrorState error={error} title="The answer was not sent" compact />}
      {canEdit ? children : <p className={classes.viewerNote}>Viewers cannot answer; members of the organization can.</p>}
    </section>
  )
}

/** Shown beside the disabled buttons until the watch shows the answer. */
export function Answered() {
  return (
    <span role="status" className={classes.viewerNote}>
      Answered. The agent is continuing.
    </span>
  )
}

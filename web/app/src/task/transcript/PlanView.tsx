import { IconChecklist, IconCircle, IconCircleCheck, IconProgress, type Icon } from '@tabler/icons-react'
import { InertLine } from '../../ui/text/Inert'
import type { PlanBlock } from './blocks'
import classes from './transcript.module.css'

const steps: Readonly<Record<string, { icon: Icon; word: string }>> = {
  completed: { icon: IconCircleCheck, word: 'done' },
  in_progress: { icon: IconProgress, word: 'in progress' },
}
const open = { icon: IconCircle, word: 'open' }

/** The present plan of a turn. */
export function PlanView({ block }: { block: PlanBlock }) {
  const { entries } = block.plan
  const done = entries.filter((entry) => entry.state === 'completed').length
  return (
    <div role="group" className={classes.plan} aria-label="Plan">
      <header className={classes.planHead}>
        <IconChecklist size={15} aria-hidden /> Plan
        <span className="fd-muted">
          {done} of {entries.length} done
        </span>
      </header>
      <ol className={classes.planSteps}>
        {entries.map((entry, at) => {
          const step = steps[entry.state] ?? open
          const Glyph = step.icon
          return (
            <li key={at} data-state={entry.state}>
              <Glyph size={15} role="img" aria-label={step.word} />
              <span>
                <InertLine text={entry.content} />
                {entry.priority === 'high' && <span className={classes.priority}>high priority</span>}
              </span>
            </li>
          )
        })}
      </ol>
    </div>
  )
}

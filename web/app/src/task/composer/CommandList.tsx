import { InertLine } from '../text/Inert'
import classes from './options.module.css'
import type { Completion } from './useCommands'

/** The commands of the agent that fit what is typed. The focus stays in the field. */
export function CommandList({ completion }: { completion: Completion }) {
  const { listId, offered, active, pick } = completion
  if (offered.length === 0) return null
  return (
    <ul id={listId} role="listbox" aria-label="Commands of the agent" className={classes.commands}>
      {offered.map((command, at) => (
        <li
          key={command.name}
          id={`${listId}-${at}`}
          role="option"
          aria-selected={at === active}
          className={classes.command}
          // A press must not take the focus from the field.
          onPointerDown={(event) => event.preventDefault()}
          onClick={() => pick(command)}
        >
          <InertLine text={`/${command.name}`} className={classes.commandName} />
          {command.hint !== '' && <InertLine text={command.hint} className={classes.commandHint} />}
          <InertLine text={command.description} className={classes.commandAbout} />
        </li>
      ))}
    </ul>
  )
}

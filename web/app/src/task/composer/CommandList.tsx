import { InertLine } from '../../ui/text/Inert'
import classes from './options.module.css'
import type { Completion } from './useCommands'

/** The agent's commands that match the typed text. The focus stays in the field. */
export function CommandList({ completion }: { completion: Completion }) {
  const { listId, offered, active, pick } = completion
  if (offered.length === 0) return null
  return (
    // biome-ignore lint/a11y/noNoninteractiveElementToInteractiveRole: HTML lets a list be a listbox
    <ul id={listId} role="listbox" aria-label="Agent commands" className={classes.commands}>
      {offered.map((command, at) => (
        // biome-ignore lint/a11y: the focus stays in the field, which takes the keys and names the active option
        <li
          key={command.name}
          id={`${listId}-${at}`}
          // biome-ignore lint/a11y/noNoninteractiveElementToInteractiveRole: HTML lets an item of a list be an option
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

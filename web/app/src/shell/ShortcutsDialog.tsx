import { Modal } from '@mantine/core'
import { filterWords } from '../state/taskList'
import { Kbd } from '../ui'
import { useShortcutGroups } from '../ui/shortcuts'
import classes from './ShortcutsDialog.module.css'

const list = [
  { keys: '↑ ↓', label: 'Move through the list' },
  { keys: 'Enter', label: 'Open' },
  { keys: 'Esc', label: 'Close a dialog, clear the filter' },
  { keys: 'mod+Enter', label: 'Create the task (in the New task dialog)' },
]

const talk = [
  { keys: 'Enter', label: 'Send the message' },
  { keys: 'Shift+Enter', label: 'Insert a line break' },
  { keys: 'Esc', label: 'Stop the turn' },
  { keys: '1–9', label: 'Choose an answer to a question' },
]

const review = [
  { keys: 'n', label: 'Next changed file' },
  { keys: 'p', label: 'Previous changed file' },
  { keys: 'v', label: 'Mark the file as viewed, or not' },
  { keys: '↑ ↓', label: 'Choose a line of the diff; with Shift, several' },
  { keys: 'c', label: 'Comment on the chosen lines, or on the file' },
  { keys: 'mod+Enter', label: 'Keep the comment, or send the review' },
]

/** All shortcuts that work on this page. */
export function ShortcutsDialog({ onClose }: { onClose: () => void }) {
  const groups = useShortcutGroups()
  return (
    <Modal opened onClose={onClose} title="Shortcuts" size="lg">
      <div className={classes.groups}>
        {groups.map((group) => (
          <Group key={group.title} title={group.title} rows={group.shortcuts} />
        ))}
        <Group title="Lists and dialogs" rows={list} />
        {groups.some((group) => group.title === 'Conversation') && <Group title="Messages and questions" rows={talk} />}
        {groups.some((group) => group.title === 'Conversation') && <Group title="Changes" rows={review} />}
      </div>
      <p className={classes.note}>
        The filter matches titles, branches, repositories and states, and <span className="fd-mono">{filterWords.join(' ')}</span>
      </p>
    </Modal>
  )
}

function Group({ title, rows }: { title: string; rows: readonly { keys: string; label: string }[] }) {
  return (
    <section className={classes.group} aria-label={title}>
      <h2 className={classes.title}>{title}</h2>
      <dl className={classes.rows}>
        {rows.map((row) => (
          <div key={row.keys} className={classes.row}>
            <dt>{row.label}</dt>
            <dd>
              <Kbd keys={row.keys} />
            </dd>
          </div>
        ))}
      </dl>
    </section>
  )
}

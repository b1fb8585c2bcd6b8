import { Checkbox, PasswordInput, TextInput } from '@mantine/core'
import classes from './ModelsPage.module.css'
import { isStored, newEntry, type Entry } from './entries'
import { Rows } from './Rows'
import { plain } from './SettingsDialog'
import type { Problems } from './useSettings'
import type { Secrets } from './useSecrets'

interface Props {
  /** Name of the field in the settings; the ids of its entries begin with it. */
  list: string
  title: string
  one: string
  about: string
  placeholder: string
  entries: readonly Entry[]
  onEntries: (entries: Entry[]) => void
  /** Whether stored secrets are kept where no new one is entered. */
  keeps?: boolean
  problems: Problems
  secrets: Secrets
  error: string | undefined
}

/** Named values, each of which may be secret: it is then entered but never shown. */
export function NamedValues({ list, title, one, about, placeholder, entries, onEntries, keeps = true, problems, secrets, error }: Props) {
  return (
    <Rows title={title} one={one} about={about} rows={entries} onRows={onEntries} fresh={() => newEntry(list)} error={error}>
      {(entry, change, isFresh) => (
        <>
          <TextInput
            {...plain}
            className={classes.cell}
            label="Name"
            placeholder={placeholder}
            autoFocus={isFresh}
            value={entry.name}
            onChange={(event) => change({ name: event.currentTarget.value })}
            error={problems[`${entry.id}/name`]}
          />
          {entry.isSecret ? (
            <PasswordInput
              ref={secrets.field(entry.id)}
              className={classes.cell}
              label="Value"
              placeholder={keeps && isStored(entry) ? 'Leave empty to keep it' : ''}
              autoComplete="off"
              spellCheck={false}
              error={problems[entry.id]}
              visibilityToggleButtonProps={{ 'aria-label': 'Show the value' }}
            />
          ) : (
            <TextInput
              {...plain}
              className={classes.cell}
              label="Value"
              value={entry.value}
              onChange={(event) => change({ value: event.currentTarget.value })}
              error={problems[entry.id]}
            />
          )}
          <Checkbox
            className={classes.secret}
            label="Secret"
            checked={entry.isSecret}
            onChange={(event) => {
              const isSecret = event.currentTarget.checked
              // What was typed in plain sight moves to the field that hides it.
              if (isSecret && entry.value !== '') secrets.put(entry.id, entry.value)
              change({ isSecret, value: '' })
            }}
          />
        </>
      )}
    </Rows>
  )
}

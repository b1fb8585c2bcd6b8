import type { NamedValue } from '@foundry/client/gen/foundry/common/v1/secret_pb'

/** A named value in a form. The secret itself is not in it: it stays in its field (`useSecrets`). */
export interface Entry {
  /** The same as long as the form is open, and for an entry that is stored under its name. */
  readonly id: string
  readonly name: string
  /** Empty for a secret one. */
  readonly value: string
  readonly isSecret: boolean
  /** The name that a secret is stored under; it is kept where no other one is entered. */
  readonly storedAs?: string
}

let made = 0

/** An entry to be filled in, of the list of this name. Secret until somebody says otherwise. */
export function newEntry(list: string): Entry {
  made += 1
  return { id: `${list}//${made}`, name: '', value: '', isSecret: true }
}

/** A stored list as a form holds it. */
export function entriesOf(list: string, values: readonly NamedValue[]): Entry[] {
  return values.map(({ name, content }) => {
    const isSecret = content.case === 'secret'
    return {
      id: `${list}/${name}`,
      name,
      value: content.case === 'value' ? content.value : '',
      isSecret,
      ...(isSecret && { storedAs: name }),
    }
  })
}

/** Whether an entry has a secret that is stored already. */
export function isStored({ name, isSecret, storedAs }: Entry): boolean {
  return isSecret && storedAs === name.trim()
}

/** An entry whose stored secret is not its own any more, so that it has to be entered. */
export function unstored({ storedAs: _, ...entry }: Entry): Entry {
  return entry
}

/** Whether two names are those of the same HTTP header, or of the same variable. */
export const sameHeader = (one: string, other: string) => one.toLowerCase() === other.toLowerCase()
export const sameVariable = (one: string, other: string) => one === other

/** The list as it is sent; `secretOf` has what was entered, and an empty secret keeps the one that is stored. */
export function namedValues(entries: readonly Entry[], secretOf: (id: string) => string) {
  return entries.map(({ id, name, value, isSecret }) => ({
    name: name.trim(),
    content: isSecret ? { case: 'secret' as const, value: { value: secretOf(id) } } : { case: 'value' as const, value: value.trim() },
  }))
}

/** A list as text, without the values of secret entries. */
export function entriesText(entries: readonly Pick<Entry, 'name' | 'value' | 'isSecret'>[]): string {
  return entries.map(({ name, value, isSecret }) => (isSecret ? `${name.trim()} (secret)` : `${name.trim()}: ${value.trim()}`)).join(', ')
}

/** What is wrong with entries, by the id of the entry for its value and by `id/name` for its name. */
export function entryProblems(
  entries: readonly Entry[],
  isGiven: (id: string) => boolean,
  isSame: (one: string, other: string) => boolean,
): Record<string, string> {
  const problems: Record<string, string> = {}
  entries.forEach((entry, at) => {
    const name = entry.name.trim()
    if (name === '') problems[`${entry.id}/name`] = 'A name is required.'
    else if (entries.slice(0, at).some((other) => isSame(other.name.trim(), name)))
      problems[`${entry.id}/name`] = 'This name is used twice.'
    if (entry.isSecret && !isStored(entry) && !isGiven(entry.id)) problems[entry.id] = 'The value is required.'
  })
  return problems
}

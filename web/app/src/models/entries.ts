import type { NamedValue } from '@foundry/client/gen/foundry/common/v1/secret_pb'

/** A named value in a form. The secret itself is not in it: it stays in its field (`useSecrets`). */
export interface Entry {
  /** Stable while the form is open; a stored entry has its name in it. */
  readonly id: string
  readonly name: string
  /** Empty for a secret one. */
  readonly value: string
  readonly isSecret: boolean
  /** The name under which a secret is stored; it is kept where no new one is entered. */
  readonly storedAs?: string
}

let made = 0

/** An empty entry for the list of this name; secret by default. */
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

/** Whether the entry has a stored secret. */
export function isStored({ name, isSecret, storedAs }: Entry): boolean {
  return isSecret && storedAs === name.trim()
}

/** The entry without its stored secret, which must be entered again. */
export function unstored({ storedAs: _, ...entry }: Entry): Entry {
  return entry
}

/** Whether two names denote the same HTTP header, or the same variable. */
export const sameHeader = (one: string, other: string) => one.toLowerCase() === other.toLowerCase()
export const sameVariable = (one: string, other: string) => one === other

/** The list as it is sent; `secretOf` returns what was entered, and an empty secret keeps the stored one. */
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

/** Problems of entries: of values by the entry's id, of names by `id/name`. */
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

/** A field of settings as a form holds it. */
export interface Field<T> {
  /** Its name in a field mask. */
  readonly path: string
  /** Its label in the form. */
  readonly label: string
  /** Its content as text; equal contents give equal texts. */
  readonly text: (content: T) => string
}

/** All fields of a form. */
export type Fields<V> = { readonly [K in keyof V]: Field<V[K]> }

/** A field that two people changed at the same time. */
export interface Clash {
  readonly label: string
  /** The other person's value. */
  readonly now: string
}

function keysOf<V extends object>(fields: Fields<V>): (keyof V)[] {
  return Object.keys(fields) as (keyof V)[]
}

function differs<V>(fields: Fields<V>, key: keyof V, one: V, other: V): boolean {
  return fields[key].text(one[key]) !== fields[key].text(other[key])
}

/**
 * The paths of the fields to send: those whose content has changed, and those with a newly entered secret, which
 * their content does not show.
 */
export function changedPaths<V extends object>(fields: Fields<V>, base: V, mine: V, secretly: readonly string[]): string[] {
  return keysOf(fields).flatMap((key) => {
    const { path } = fields[key]
    return secretly.includes(path) || differs(fields, key, base, mine) ? [path] : []
  })
}

/** Merges the changes of one person, whose fields are `paths`, into the settings that another has saved since. */
export function merged<V extends object>(
  fields: Fields<V>,
  base: V,
  mine: V,
  theirs: V,
  paths: readonly string[],
): { values: V; clashes: Clash[] } {
  const values = { ...theirs }
  const clashes: Clash[] = []
  for (const key of keysOf(fields)) {
    const { path, label, text } = fields[key]
    if (!paths.includes(path)) continue
    values[key] = mine[key]
    if (differs(fields, key, base, theirs) && differs(fields, key, mine, theirs)) clashes.push({ label, now: text(theirs[key]) })
  }
  return { values, clashes }
}

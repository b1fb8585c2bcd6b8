import type { FoundryError } from '@foundry/client'
import { sentence } from '../ui'

/** The violations of a refused request by field of its `settings`, and the error that is left to show below. */
export interface Refusals<F extends string> {
  readonly at: Partial<Record<F, string>>
  /** The error, unless all of it is shown at fields. */
  readonly rest: FoundryError | undefined
}

/** Sorts the violations of an error by field; those of a part of a field, such as `models[2]`, belong to the field. */
export function refusals<F extends string>(error: FoundryError | undefined, fields: readonly F[]): Refusals<F> {
  const at: Partial<Record<F, string>> = {}
  let elsewhere = error !== undefined && error.fields.length === 0
  for (const { field, description } of error?.fields ?? []) {
    const own = fields.find((it) => new RegExp(`^settings\\.${it}($|[.[])`).test(field))
    if (own === undefined) elsewhere = true
    else at[own] = sentence(description)
  }
  return { at, rest: elsewhere ? error : undefined }
}

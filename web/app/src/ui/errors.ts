import { Code } from '@connectrpc/connect'
import { FoundryError } from '@foundry/client'

/** An error as people read it. */
export interface ErrorText {
  /** Stable code, as the error pages are named. */
  readonly reason: string
  /** What went wrong, one sentence. */
  readonly message: string
  /** What can be done now; empty when nothing is known. */
  readonly nextAction: string
  readonly retryable: boolean
  /** Everything known, for a report. */
  readonly details: string
}

/** Turns whatever was thrown into words. */
export function errorText(error: unknown): ErrorText {
  const typed = FoundryError.from(error)
  const reason = typed.reason === '' ? (Code[typed.code] ?? 'UNKNOWN').replace(/(?<=[a-z])(?=[A-Z])/g, '_').toUpperCase() : typed.reason
  return {
    reason,
    message: sentence(typed.message),
    nextAction: typed.nextAction,
    retryable: typed.retryable,
    details: details(typed, reason),
  }
}

/** A sentence starts with a capital letter and ends with a full stop. */
export function sentence(text: string): string {
  const trimmed = text.trim()
  if (trimmed === '') return 'Something went wrong.'
  const first = trimmed.charAt(0).toUpperCase() + trimmed.slice(1)
  return /[.!?…]$/.test(first) ? first : `${first}.`
}

function details(error: FoundryError, reason: string): string {
  const lines = [`reason: ${reason}`, `code: ${Code[error.code] ?? error.code}`, `message: ${error.message}`]
  if (error.nextAction !== '') lines.push(`next action: ${error.nextAction}`)
  if (error.retryAfterMs !== undefined) lines.push(`retry after: ${error.retryAfterMs} ms`)
  if (error.resource !== undefined) lines.push(`resource: ${error.resource.type} ${error.resource.name}`)
  for (const { field, description } of error.fields) lines.push(`field ${field}: ${description}`)
  for (const [key, value] of Object.entries(error.metadata)) lines.push(`${key}: ${value}`)
  return lines.join('\n')
}

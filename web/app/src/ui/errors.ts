import { ConnectError } from '@connectrpc/connect'
import type { Condition } from '@foundry/client/gen/foundry/common/v1/common_pb'
import { Code, FoundryError } from '@foundry/client'
import { visible } from './text/visible'

/** An error in the form that people read. */
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

/** The text of anything that was thrown. */
export function errorText(error: unknown): ErrorText {
  const typed = error instanceof FoundryError || error instanceof ConnectError ? FoundryError.from(error) : fault(error)
  return {
    reason: typed.reason,
    message: visible(sentence(typed.message)),
    nextAction: typed.nextAction === '' && typed.retryable ? 'Try again in a moment.' : visible(typed.nextAction),
    retryable: typed.retryable,
    details: visible(details(typed)),
  }
}

/** An error of the page itself, for which no server has a reason. */
function fault(error: unknown): FoundryError {
  const message = error instanceof Error ? error.message : String(error)
  return new FoundryError({ code: Code.Internal, reason: 'PAGE_FAULT', message, nextAction: 'reload the page' })
}

/** A sentence: starts with a capital letter and ends with a full stop. */
export function sentence(text: string): string {
  const trimmed = text.trim()
  if (trimmed === '') return 'Something went wrong.'
  const first = trimmed.charAt(0).toUpperCase() + trimmed.slice(1)
  return /[.!?…]$/.test(first) ? first : `${first}.`
}

/** Whether the next action needs a person: "none needed" is not shown. */
export function asksForSomething({ nextAction }: Condition): boolean {
  return nextAction !== '' && !/^none needed\b/i.test(nextAction)
}

function details(error: FoundryError): string {
  const lines = [`reason: ${error.reason}`, `code: ${Code[error.code] ?? error.code}`, `message: ${error.message}`]
  if (error.nextAction !== '') lines.push(`next action: ${error.nextAction}`)
  if (error.retryAfterMs !== undefined) lines.push(`retry after: ${error.retryAfterMs} ms`)
  if (error.resource !== undefined) lines.push(`resource: ${error.resource.type} ${error.resource.name}`)
  for (const { field, description } of error.fields) lines.push(`field ${field}: ${description}`)
  for (const [key, value] of Object.entries(error.metadata)) lines.push(`${key}: ${value}`)
  return lines.join('\n')
}

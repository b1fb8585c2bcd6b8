import { Code, FoundryError } from '@foundry/client'

/** What the callback of a provider reports in the address, and what to do. Nothing else of an address is shown. */
const REASONS: Record<string, readonly [message: string, nextAction: string]> = {
  SIGN_IN_OTHER_BROWSER: [
    'The sign-in was begun in another browser or tab, or its cookie is gone',
    'sign in again here; if you did not begin it yourself, do not follow such links',
  ],
  SIGN_IN_USED: ['This sign-in has come back before', 'sign in again'],
  SIGN_IN_EXPIRED: ['The sign-in took longer than ten minutes', 'sign in again'],
  SIGN_IN_UNKNOWN: ['This tab did not begin the sign-in, or it has been forgotten', 'sign in again'],
  SIGN_IN_PROVIDER_WRONG: ['The answer is not from the identity provider that was asked', 'sign in again'],
  SIGN_IN_PROVIDER_UNKNOWN: ['No identity provider of this name is configured', 'choose one of the ways below'],
  LIMIT_REACHED: ['Too many requests came from your address', 'wait a minute and sign in again'],
}

/** The error of a refused way back. */
export function refusal(reason: string): FoundryError {
  const known = Object.hasOwn(REASONS, reason) ? REASONS[reason] : undefined
  const [message, nextAction] = known ?? ['The sign-in did not reach its end', 'sign in again']
  const shown = known === undefined ? 'SIGN_IN_INTERRUPTED' : reason
  return new FoundryError({ code: Code.PermissionDenied, reason: shown, message, nextAction })
}

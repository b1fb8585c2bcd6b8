import { isOwnPath } from './away'

/** The part of a sign-in link after the `#`, which reaches no server and no log. */
export interface SignInFragment {
  readonly secret: string
  /** Empty when the link has none. */
  readonly login: string
  /** Empty when the link has none. */
  readonly organization: string
}

/** Parses a sign-in link; undefined when the fragment has no secret. */
export function parseFragment(hash: string): SignInFragment | undefined {
  const fields = new URLSearchParams(hash.replace(/^#/, ''))
  const secret = fields.get('secret')?.trim() ?? ''
  if (secret === '') return undefined
  return { secret, login: fields.get('login')?.trim() ?? '', organization: fields.get('organization')?.trim() ?? '' }
}

/** Reads the sign-in link of the page and removes it from the address bar and the history. */
export function takeFragment(): SignInFragment | undefined {
  const fragment = parseFragment(location.hash)
  if (fragment !== undefined) history.replaceState(history.state, '', location.pathname + location.search)
  return fragment
}

/** The state of sign-in in the history entry. */
export interface SignInState {
  /** Path of this page to open afterwards. */
  readonly returnTo: string
  /** Whether a session existed and has ended. */
  readonly ended: boolean
}

/** Reads the history entry of the sign-in page; anything but a path of this page leads to the start page. */
export function signInState(state: unknown): SignInState {
  const { returnTo, ended } = (state ?? {}) as Record<string, unknown>
  const own = typeof returnTo === 'string' && isOwnPath(returnTo)
  return { returnTo: own ? returnTo : '/', ended: ended === true }
}

/** The form of a login and of an organization's name: 1 to 39 of a-z, 0-9 and `-`. */
export const NAME_PATTERN = /^[a-z0-9-]{1,39}$/

/** Why a name cannot be used; undefined when it can. */
export function nameProblem(name: string, what: string): string | undefined {
  if (name === '') return `${what} is required.`
  return NAME_PATTERN.test(name) ? undefined : `${what}: 1 to 39 characters of a–z, 0–9 and “-”.`
}

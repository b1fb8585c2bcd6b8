/** What a sign-in link carries after the `#`, where no server and no log sees it. */
export interface SignInFragment {
  readonly secret: string
  /** Empty when the link names none. */
  readonly login: string
  /** Empty when the link names none. */
  readonly organization: string
}

/** Reads a sign-in link; undefined when the fragment holds no secret. */
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

/** What sign-in keeps in the history entry. */
export interface SignInState {
  /** Where to go after; a path of this page. */
  readonly returnTo: string
  /** Whether a session was there and has ended. */
  readonly ended: boolean
}

/** Reads the history entry of the sign-in page; anything that is no path of this page leads home. */
export function signInState(state: unknown): SignInState {
  const { returnTo, ended } = (state ?? {}) as Record<string, unknown>
  const own = typeof returnTo === 'string' && /^\/(?![/\\])/.test(returnTo) && !returnTo.startsWith('/sign-in')
  return { returnTo: own ? returnTo : '/', ended: ended === true }
}

/** What a sign-in name and an organization's name look like: 1 to 39 of a-z, 0-9 and `-`. */
export const NAME_PATTERN = /^[a-z0-9-]{1,39}$/

/** Why a name cannot be used; undefined when it can. */
export function nameProblem(name: string, what: string): string | undefined {
  if (name === '') return `${what} is required.`
  return NAME_PATTERN.test(name) ? undefined : `${what}: 1 to 39 characters of a–z, 0–9 and “-”.`
}

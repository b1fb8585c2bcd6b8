/** A sign-in whose browser is at a provider. Kept in this tab's storage of this origin, which no other port can read. */
export interface Away {
  readonly signInId: string
  /** Secret: with it the session is opened. */
  readonly claim: string
  /** Path of this page to open afterwards. */
  readonly returnTo: string
}

const NAME = 'foundry-sign-in'

/** Remembers a sign-in before the browser goes to the provider. */
export function leaveFor(away: Away): void {
  sessionStorage.setItem(NAME, JSON.stringify(away))
}

/** How the browser came back: with a sign-in, or with a refusal. */
export type Return = { readonly kind: 'back'; readonly away: Away } | { readonly kind: 'refused'; readonly reason: string }

/**
 * Reads the way back from a provider, once, and removes it from the address and the storage. A sign-in that this tab did
 * not begin is refused here already.
 */
export function takeReturn(): Return | undefined {
  const sent = new URLSearchParams(location.search)
  const [signInId, refused] = [sent.get('sign_in'), sent.get('refused')]
  if (signInId === null && refused === null) return undefined
  const away = take()
  history.replaceState(history.state, '', location.pathname + location.hash)
  if (refused !== null) return { kind: 'refused', reason: refused }
  return away?.signInId === signInId && away !== undefined ? { kind: 'back', away } : { kind: 'refused', reason: 'SIGN_IN_UNKNOWN' }
}

function take(): Away | undefined {
  const text = sessionStorage.getItem(NAME)
  sessionStorage.removeItem(NAME)
  try {
    const { signInId, claim, returnTo } = JSON.parse(text ?? 'null') as Record<string, unknown>
    if (typeof signInId !== 'string' || typeof claim !== 'string' || typeof returnTo !== 'string') return undefined
    return { signInId, claim, returnTo: isOwnPath(returnTo) ? returnTo : '/' }
  } catch {
    return undefined
  }
}

/** Whether a text is a path of this page, and no address of another one. */
export function isOwnPath(path: string): boolean {
  return /^\/(?![/\\])/.test(path) && !path.startsWith('/sign-in')
}

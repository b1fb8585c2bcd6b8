/** A sign-in whose browser is at a provider. Kept in this tab's storage of this origin, which no other port can read. */
export interface Away {
  readonly signInId: string
  /** Secret: it shows that this page began the sign-in. */
  readonly claim: string
  /** Path of this page to open afterwards. */
  readonly returnTo: string
}

/** A sign-in whose browser is back. */
export interface Back extends Away {
  /** Secret from the address: it shows that the browser came back to this page. The session needs it beside the claim. */
  readonly returnSecret: string
}

const NAME = 'foundry-sign-in'

/** Remembers a sign-in before the browser goes to the provider. */
export function leaveFor(away: Away): void {
  keep(away)
}

/** Forgets the sign-in that came back: it has been answered, and would be answered the same again. */
export function forgetReturn(): void {
  sessionStorage.removeItem(NAME)
}

/** How the browser came back: with a sign-in, or with a refusal. */
export type Return = { readonly kind: 'back'; readonly back: Back } | { readonly kind: 'refused'; readonly reason: string }

/**
 * Reads the way back from a provider and removes it from the address, the secret in the fragment included. A sign-in that
 * this tab did not begin is refused here already. What came back is kept in the storage until it is answered, so that the
 * page may be loaded again before.
 */
export function takeReturn(): Return | undefined {
  const sent = new URLSearchParams(location.search)
  const [signInId, refused] = [sent.get('sign_in'), sent.get('refused')]
  const kept = read()
  if (signInId === null && refused === null) {
    const { returnSecret } = kept ?? {}
    return kept !== undefined && returnSecret !== undefined ? { kind: 'back', back: { ...kept, returnSecret } } : undefined
  }
  const returnSecret = new URLSearchParams(location.hash.slice(1)).get('return') ?? ''
  history.replaceState(history.state, '', location.pathname)
  if (refused === null && kept?.signInId === signInId && kept !== undefined && returnSecret !== '') {
    const back = { ...kept, returnSecret }
    keep(back)
    return { kind: 'back', back }
  }
  forgetReturn()
  return { kind: 'refused', reason: refused ?? 'SIGN_IN_UNKNOWN' }
}

function keep(it: Away | Back): void {
  sessionStorage.setItem(NAME, JSON.stringify(it))
}

function read(): (Away & Partial<Back>) | undefined {
  try {
    const stored = JSON.parse(sessionStorage.getItem(NAME) ?? 'null') as Record<string, unknown>
    const { signInId, claim, returnTo, returnSecret } = stored
    if (typeof signInId !== 'string' || typeof claim !== 'string' || typeof returnTo !== 'string') return undefined
    const away = { signInId, claim, returnTo: isOwnPath(returnTo) ? returnTo : '/' }
    return typeof returnSecret === 'string' ? { ...away, returnSecret } : away
  } catch {
    return undefined
  }
}

/** Whether a text is a path of this page, and no address of another one. */
export function isOwnPath(path: string): boolean {
  return /^\/(?![/\\])/.test(path) && !path.startsWith('/sign-in')
}

import { useConnection } from '@foundry/client/react'
import { useEffect, useRef, type ReactNode } from 'react'
import { useLocation } from 'wouter'
import { isLeaving } from './leave'
import { paths } from './paths'

/** How long "signed out" must last, in milliseconds: a worker that has just started gets the session a moment later. */
const SETTLED = 250

/** Shows its content to a signed-in person; redirects others to the sign-in page, and back here afterwards. */
export function SignedIn({ children }: { children: ReactNode }) {
  const { phase } = useConnection()
  const [location, navigate] = useLocation()
  const worked = useRef(false)
  if (phase === 'open') worked.current = true
  const out = phase === 'signed-out'
  useEffect(() => {
    if (!out) return
    const leaving = isLeaving()
    const state = leaving ? undefined : { returnTo: location + window.location.search, ended: worked.current }
    const timer = setTimeout(() => navigate(paths.signIn, { replace: true, state }), leaving ? 0 : SETTLED)
    return () => clearTimeout(timer)
  }, [out, location, navigate])
  return out ? null : children
}

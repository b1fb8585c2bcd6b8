import { useConnection } from '@foundry/client/react'
import { useEffect, useRef, type ReactNode } from 'react'
import { useLocation } from 'wouter'
import { isLeaving } from './leave'
import { paths } from './paths'

/** Shows its content to who is signed in; leads others to the sign-in page, and back here after. */
export function SignedIn({ children }: { children: ReactNode }) {
  const { phase } = useConnection()
  const [location, navigate] = useLocation()
  const worked = useRef(false)
  if (phase === 'open') worked.current = true
  const out = phase === 'signed-out'
  useEffect(() => {
    if (!out) return
    const state = isLeaving() ? undefined : { returnTo: location + window.location.search, ended: worked.current }
    navigate(paths.signIn, { replace: true, state })
  }, [out, location, navigate])
  return out ? null : children
}

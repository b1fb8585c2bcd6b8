import type { Session } from '@foundry/client/gen/foundry/auth/v1/session_pb'
import { useEffect, useRef, useState } from 'react'
import { useTitle } from '../app/useTitle'
import { useSessions } from '../state/sessions'
import { ErrorState, TextSkeleton, useFocusBack } from '../ui'
import { EndSessionDialog } from './EndSessionDialog'
import { SessionRow } from './SessionRow'
import classes from './SessionsPage.module.css'

/** Where the person is signed in. Loaded when the page is opened and after each change made here. */
export function SessionsPage() {
  const read = useSessions()
  const [ends, setEnds] = useState<Session>()
  const heading = useRef<HTMLHeadingElement>(null)
  const loaded = useRef(false)
  useTitle('Devices and sessions')
  useFocusBack(ends !== undefined)
  useEffect(() => {
    if (read.data === undefined) return
    // The button that had the focus went with its session.
    if (loaded.current && document.activeElement === document.body) heading.current?.focus({ preventScroll: true })
    loaded.current = true
  }, [read.data])
  return (
    <div className={classes.page}>
      <h1 ref={heading} tabIndex={-1} className={classes.title}>
        Devices and sessions
      </h1>
      <p className={classes.about}>
        Browsers and programs that are signed in as you. A session may do what you may, in all your organizations. End the ones that you do
        not know.
      </p>
      {read.error !== undefined && <ErrorState error={read.error} title="The sessions could not be loaded" onRetry={read.reload} compact />}
      {read.data === undefined && read.error === undefined && <TextSkeleton lines={4} label="Loading sessions" />}
      {read.data !== undefined && (
        <ul aria-label="Sessions" className={classes.list}>
          {read.data.map((it) => (
            <SessionRow key={it.credentialId} session={it} onEnd={() => setEnds(it)} />
          ))}
        </ul>
      )}
      {ends !== undefined && <EndSessionDialog session={ends} onClose={() => setEnds(undefined)} onEnded={read.reload} />}
    </div>
  )
}

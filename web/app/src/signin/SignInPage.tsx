import type { SignInWays } from '@foundry/client'
import { Alert, Button, PasswordInput, Stack, TextInput } from '@mantine/core'
import { useConnection, useFoundry } from '@foundry/client/react'
import { IconInfoCircle } from '@tabler/icons-react'
import { useEffect, useRef, useState, type ReactNode, type SubmitEvent } from 'react'
import { Link, useLocation } from 'wouter'
import { useHistoryState } from 'wouter/use-browser-location'
import { hasLeft } from '../app/leave'
import { Logo } from '../app/Logo'
import { useTitle } from '../app/useTitle'
import { useCommand } from '../state/command'
import { CopyButton, ErrorState, forgetToasts } from '../ui'
import { Providers, Returning, useReturn } from './Providers'
import { nameProblem, signInState, takeFragment } from './fragment'
import classes from './SignInPage.module.css'

interface Fields {
  secret: string
  login: string
  organization: string
}

const COMMAND = 'foundry login --web'
const empty: Fields = { secret: '', login: '', organization: '' }

/**
 * Signs in at one of the configured providers; without any, with the secret of the mesh and a name. A sign-in link fills
 * in that form, and sends it when it has a login.
 */
export function SignInPage() {
  useTitle('Sign in')
  useEffect(hasLeft, [])
  useEffect(forgetToasts, [])
  const client = useFoundry()
  const connection = useConnection()
  const [, navigate] = useLocation()
  const { returnTo, ended } = signInState(useHistoryState<unknown>())
  const [fields, setFields] = useState<Fields>(empty)
  const [shown, setShown] = useState(false)
  const [done, setDone] = useState(false)
  // Nothing is watched on this page, so the connection of a session is `closed`.
  const signedIn = connection.phase === 'open' || (connection.phase === 'closed' && connection.error === undefined)
  const signIn = useCommand('You are not signed in', async (_: string, it: Fields) => {
    await client.signIn(it.secret, it.login, it.organization === '' ? undefined : it.organization)
    return true
  })
  const send = async (it: Fields) => {
    setShown(true)
    if (problems(it) !== undefined) return
    if ((await signIn.run(it)) === true) setDone(true)
  }
  const [returned, setReturned] = useState<string>()
  const back = useReturn((path) => {
    setReturned(path)
    setDone(true)
  })
  const { ways, ...unloaded } = useWays()
  const failure = signIn.error ?? back.error
  // The connection learns of the new session a moment after the answer.
  useEffect(() => {
    if (done && connection.phase !== 'signed-out') navigate(returned ?? returnTo, { replace: true })
  }, [done, connection.phase, navigate, returned, returnTo])
  useLink((link) => {
    setFields(link)
    if (link.login !== '') void send(link)
  })
  return (
    <main className={classes.page}>
      <div className={classes.card}>
        <div className={classes.head}>
          <Logo size={32} />
          <h1 className={classes.title}>Sign in to Foundry</h1>
        </div>
        {ended && failure === undefined && !back.busy && <Notice>Your session has ended. Sign in to continue.</Notice>}
        {signedIn && !signIn.busy && !back.busy && !done && (
          <Notice>
            You are already signed in. <Link href={returnTo}>Go to your tasks</Link>
          </Notice>
        )}
        {back.busy && <Returning />}
        {!back.busy && ways !== undefined && ways.ways.length > 0 && <Providers ways={ways} returnTo={returnTo} />}
        {!back.busy && ways !== undefined && ways.ways.length === 0 && (
          <SignInForm fields={fields} setFields={setFields} shown={shown} busy={signIn.busy || done} onSend={() => void send(fields)} />
        )}
        {failure !== undefined && (
          <div className={classes.failure}>
            <ErrorState error={failure} title="Sign-in failed" compact />
          </div>
        )}
        {unloaded.error !== undefined && (
          <ErrorState
            error={unloaded.error}
            title="The ways to sign in could not be loaded"
            onRetry={unloaded.again}
            retrying={unloaded.loading}
            compact
          />
        )}
        {ways?.ways.length === 0 && <Hint />}
      </div>
    </main>
  )
}

interface Ways {
  /** The ways to sign in; undefined until they are known. */
  ways: SignInWays | undefined
  /** Why they are not known. */
  error: unknown
  again: () => void
  loading: boolean
}

/** Loads the ways to sign in. No form is shown without them: in a mesh with providers it would ask for what cannot work. */
function useWays(): Ways {
  const client = useFoundry()
  const [attempt, setAttempt] = useState(0)
  const [ways, setWays] = useState<SignInWays>()
  const [error, setError] = useState<unknown>()
  const [loading, setLoading] = useState(true)
  useEffect(() => {
    let gone = false
    const end = (ways: SignInWays | undefined, error: unknown) => {
      if (gone) return
      setLoading(false)
      setWays(ways)
      setError(error)
    }
    setLoading(true)
    client.signInWays().then(
      (it) => end(it, undefined),
      (thrown: unknown) => end(undefined, thrown),
    )
    return () => {
      gone = true
    }
  }, [client, attempt])
  return { ways, error, again: () => setAttempt((n) => n + 1), loading }
}

function Notice({ children }: { children: ReactNode }) {
  return (
    <Alert icon={<IconInfoCircle size={16} />} color="gray" mb="md" role="status">
      {children}
    </Alert>
  )
}

/** Explains how to get a sign-in link. */
function Hint() {
  return (
    <div className={classes.hint}>
      <p>No secret? Run this on the machine that runs the mesh to get a sign-in link:</p>
      <div className={classes.command}>
        <code>{COMMAND}</code>
        <CopyButton value={COMMAND} label="Copy command" />
      </div>
    </div>
  )
}

/** Passes on the sign-in link in the page's address, also when it changes while the page is shown. */
function useLink(take: (link: Fields) => void): void {
  const latest = useRef(take)
  latest.current = take
  useEffect(() => {
    const look = () => {
      const link = takeFragment()
      if (link !== undefined) latest.current({ ...link })
    }
    look()
    addEventListener('hashchange', look)
    return () => removeEventListener('hashchange', look)
  }, [])
}

function problems(it: Fields): Partial<Fields> | undefined {
  const found: Partial<Fields> = {}
  if (it.secret.trim() === '') found.secret = 'The secret is required.'
  const login = nameProblem(it.login, 'Login')
  if (login !== undefined) found.login = login
  const organization = it.organization === '' ? undefined : nameProblem(it.organization, 'Organization')
  if (organization !== undefined) found.organization = organization
  return Object.keys(found).length === 0 ? undefined : found
}

interface FormProps {
  fields: Fields
  setFields: (fields: Fields) => void
  /** Whether problems are shown: after the first attempt. */
  shown: boolean
  busy: boolean
  onSend: () => void
}

function SignInForm({ fields, setFields, shown, busy, onSend }: FormProps) {
  const wrong = shown ? (problems(fields) ?? {}) : {}
  const set = (name: keyof Fields) => (event: { currentTarget: { value: string } }) =>
    setFields({ ...fields, [name]: event.currentTarget.value })
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    onSend()
  }
  return (
    <form onSubmit={submit} noValidate aria-label="Sign in">
      <Stack gap="sm">
        <PasswordInput
          label="Secret"
          description="From the secret file in the data directory of the mesh"
          autoComplete="off"
          spellCheck={false}
          value={fields.secret}
          onChange={set('secret')}
          error={wrong.secret}
          visibilityToggleButtonProps={{ 'aria-label': 'Show the secret' }}
          required
          withAsterisk={false}
          data-autofocus
        />
        <TextInput
          label="Login"
          autoComplete="username"
          autoCapitalize="none"
          spellCheck={false}
          value={fields.login}
          onChange={set('login')}
          error={wrong.login}
          required
          withAsterisk={false}
        />
        <TextInput
          label="Organization (optional)"
          description="Default: the one named after your login"
          autoComplete="organization"
          autoCapitalize="none"
          spellCheck={false}
          value={fields.organization}
          onChange={set('organization')}
          error={wrong.organization}
        />
        <Button type="submit" size="sm" loading={busy} fullWidth mt="xs">
          Sign in
        </Button>
      </Stack>
    </form>
  )
}

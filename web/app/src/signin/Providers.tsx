import { Button, Loader, PasswordInput, Stack, TextInput } from '@mantine/core'
import type { SetUp, SignInWay, SignInWays } from '@foundry/client'
import { Code, FoundryError } from '@foundry/client'
import { useFoundry } from '@foundry/client/react'
import { IconBrandGithub, IconLogin2 } from '@tabler/icons-react'
import { useEffect, useRef, useState } from 'react'
import { useCommand } from '../state/command'
import { ErrorState } from '../ui'
import { forgetReturn, leaveFor, takeReturn, type Return } from './away'
import { nameProblem } from './fragment'
import { refusal } from './reasons'
import classes from './SignInPage.module.css'

/** Longest time that the page asks for a sign-in which is still being looked at, in milliseconds. */
const PATIENCE_MS = 60_000

interface Props {
  ways: SignInWays
  returnTo: string
}

/** The providers to sign in with, and the form of the first owner. */
export function Providers({ ways, returnTo }: Props) {
  const client = useFoundry()
  const [setUp, setSetUp] = useState<SetUp>({ secret: '', organization: '' })
  const [shown, setShown] = useState(false)
  const begin = useCommand('The sign-in did not begin', async (_: string, provider: string, first?: SetUp) => {
    const begun = await client.beginSignIn(provider, first)
    leaveFor({ signInId: begun.signInId, claim: begun.claim, returnTo })
    location.assign(begun.url)
    return true
  })
  const elsewhere = ways.publicUrl !== '' && ways.publicUrl !== location.origin
  const problem = nameProblem(setUp.organization, 'Organization')
  const go = (way: SignInWay) => {
    setShown(true)
    if (!ways.setUpRequired) return void begin.run(way.name)
    if (problem === undefined && setUp.secret.trim() !== '') void begin.run(way.name, setUp)
  }
  if (elsewhere) {
    return (
      <p className={classes.text}>
        Sign in at the address of this mesh: <a href={`${ways.publicUrl}/sign-in`}>{ways.publicUrl}</a>
      </p>
    )
  }
  return (
    <Stack gap="sm">
      {ways.setUpRequired && <SetUpForm setUp={setUp} onChange={setSetUp} problem={shown ? problem : undefined} shown={shown} />}
      {ways.ways.map((way) => (
        <Button
          key={way.name}
          variant="default"
          fullWidth
          loading={begin.busy}
          leftSection={way.kind === 'github' ? <IconBrandGithub size={18} /> : <IconLogin2 size={18} />}
          onClick={() => go(way)}
        >
          {ways.setUpRequired ? `Set up with ${way.title}` : `Continue with ${way.title}`}
        </Button>
      ))}
      {begin.error !== undefined && <ErrorState error={begin.error} title="The sign-in did not begin" compact />}
    </Stack>
  )
}

interface SetUpProps {
  setUp: SetUp
  onChange: (setUp: SetUp) => void
  problem: string | undefined
  shown: boolean
}

/** What the first owner enters: the secret of the data directory, and a name for the organization. */
function SetUpForm({ setUp, onChange, problem, shown }: SetUpProps) {
  return (
    <>
      <p className={classes.text}>Nobody owns this mesh yet. The first owner needs its set-up secret; `foundry up` prints where it is.</p>
      <PasswordInput
        label="Set-up secret"
        description="From auth/set-up.secret in the data directory"
        autoComplete="off"
        spellCheck={false}
        value={setUp.secret}
        onChange={(event) => onChange({ ...setUp, secret: event.currentTarget.value })}
        error={shown && setUp.secret.trim() === '' ? 'The set-up secret is required.' : undefined}
        visibilityToggleButtonProps={{ 'aria-label': 'Show the set-up secret' }}
        required
        withAsterisk={false}
      />
      <TextInput
        label="Organization"
        autoComplete="organization"
        autoCapitalize="none"
        spellCheck={false}
        value={setUp.organization}
        onChange={(event) => onChange({ ...setUp, organization: event.currentTarget.value })}
        error={problem}
        required
        withAsterisk={false}
      />
    </>
  )
}

/** Completes a sign-in that has come back; calls `onDone` with the path to open. */
export function useReturn(onDone: (returnTo: string) => void): { busy: boolean; error: FoundryError | undefined } {
  const client = useFoundry()
  const [error, setError] = useState<FoundryError>()
  const [busy, setBusy] = useState(false)
  const done = useRef(onDone)
  done.current = onDone
  const taken = useRef<Return | 'none'>(undefined)
  useEffect(() => {
    // Effects may run twice, the way back is there once.
    if (taken.current !== undefined) return
    const back = takeReturn()
    taken.current = back ?? 'none'
    if (back === undefined) return
    if (back.kind === 'refused') {
      setError(refusal(back.reason))
      return
    }
    setBusy(true)
    const { signInId, claim, returnSecret, returnTo } = back.back
    void complete(() => client.completeSignIn(signInId, claim, returnSecret)).then(
      () => {
        forgetReturn()
        done.current(returnTo)
      },
      (thrown: unknown) => {
        const failure = FoundryError.from(thrown)
        // Without an answer the sign-in is still there for the page when it is loaded again.
        if (failure.code !== Code.Unavailable) forgetReturn()
        setBusy(false)
        setError(failure)
      },
    )
  }, [client])
  return { busy, error }
}

/** Asks again while the provider is still being asked. */
async function complete(call: () => Promise<unknown>): Promise<void> {
  const until = Date.now() + PATIENCE_MS
  for (;;) {
    try {
      await call()
      return
    } catch (thrown) {
      const error = FoundryError.from(thrown)
      if (error.reason !== 'SIGN_IN_PENDING' || Date.now() > until) throw error
      await new Promise((resolve) => setTimeout(resolve, error.retryAfterMs ?? 500))
    }
  }
}

/** Shown while the session is opened. */
export function Returning() {
  return (
    <div className={classes.returning} role="status">
      <Loader size="sm" /> Signing in…
    </div>
  )
}

import { Button, Group, Stack, TextInput } from '@mantine/core'
import { Code, FoundryError } from '@foundry/client'
import { useFoundry } from '@foundry/client/react'
import type { ProgramSignIn } from '@foundry/client/gen/foundry/auth/v1/program_sign_in_pb'
import { useEffect, useRef, useState, type ReactNode, type SubmitEvent } from 'react'
import { Link } from 'wouter'
import { Logo } from '../app/Logo'
import { paths } from '../app/paths'
import { useTitle } from '../app/useTitle'
import { useCommand } from '../state/command'
import { useRead } from '../state/read'
import { visibleLine } from '../ui/text/visible'
import { ErrorState, RelativeTime, sentence, TextSkeleton } from '../ui'
import { loopbackUrl } from './loopback'
import classes from './DevicePage.module.css'

/** How a sign-in is selected: by the code that the person typed, or by the id in the address of this page. */
type Selected = { readonly userCode: string } | { readonly programSignInId: string }

/** A program that waits, and how it was selected. */
interface Waiting {
  readonly selected: Selected
  readonly program: ProgramSignIn
}

/**
 * Asks whether a program may sign in as the person. With an id a program on this machine has opened the page; without one
 * the person types the code that a program shows, here or elsewhere. Nothing happens before a button is pressed.
 */
export function DevicePage({ programSignInId }: { programSignInId: string | undefined }) {
  useTitle('Sign in a program')
  const client = useFoundry()
  const [typed, setTyped] = useState<Waiting>()
  const [done, setDone] = useState<'confirmed' | 'denied'>()
  const named = useRead(programSignInId, async (signal) => {
    const answer = await client.auth.getProgramSignIn({ programSignInId }, { signal })
    return waiting({ programSignInId: programSignInId ?? '' }, answer.programSignIn)
  })
  const asked = typed ?? named.data
  if (done !== undefined) return <Ended done={done} />
  if (asked !== undefined) return <Question asked={asked} onDone={setDone} />
  if (programSignInId === undefined) return <CodeForm onFound={setTyped} />
  return (
    <Card title="Sign in a program">
      {named.error === undefined ? (
        <TextSkeleton lines={3} label="Loading the program" />
      ) : (
        <ErrorState error={named.error} title="The program could not be loaded" onRetry={named.reload} compact />
      )}
    </Card>
  )
}

function waiting(selected: Selected, program: ProgramSignIn | undefined): Waiting {
  if (program === undefined) throw new FoundryError({ code: Code.Internal, message: 'The answer of the mesh names no program.' })
  return { selected, program }
}

function Card({ title, children }: { title: string; children: ReactNode }) {
  const heading = useRef<HTMLHeadingElement>(null)
  // The content changes as a whole; the focus must not stay on what is gone.
  useEffect(() => {
    if (document.activeElement === document.body) heading.current?.focus({ preventScroll: true })
  }, [title])
  return (
    <main className={classes.page}>
      <div className={classes.card}>
        <div className={classes.head}>
          <Logo size={32} />
          <h1 ref={heading} tabIndex={-1} className={classes.title}>
            {title}
          </h1>
        </div>
        {children}
      </div>
    </main>
  )
}

/** Where the code is typed. */
function CodeForm({ onFound }: { onFound: (it: Waiting) => void }) {
  const client = useFoundry()
  const [code, setCode] = useState('')
  const [missing, setMissing] = useState(false)
  const find = useCommand('The code was not found', async (_: string, userCode: string) => {
    const answer = await client.auth.getProgramSignIn({ userCode })
    return waiting({ userCode }, answer.programSignIn)
  })
  const about = find.error?.fields.find((it) => it.field === 'user_code')?.description
  const submit = async (event: SubmitEvent) => {
    event.preventDefault()
    const userCode = code.trim()
    setMissing(userCode === '')
    if (userCode === '') return
    const found = await find.run(userCode)
    if (found !== undefined) onFound(found)
  }
  return (
    <Card title="Sign in a program">
      <form onSubmit={(event) => void submit(event)} noValidate aria-label="Code of a program">
        <Stack gap="sm">
          <TextInput
            label="Code"
            description="The eight letters that the program shows."
            placeholder="BCDF-GHJK"
            autoComplete="off"
            autoCapitalize="characters"
            spellCheck={false}
            autoFocus
            value={code}
            onChange={(event) => setCode(event.currentTarget.value)}
            error={missing ? 'The code is required.' : about === undefined ? undefined : sentence(about)}
          />
          {find.error !== undefined && about === undefined && <ErrorState error={find.error} title="The code was not found" compact />}
          <Button type="submit" loading={find.busy}>
            Continue
          </Button>
        </Stack>
      </form>
    </Card>
  )
}

/** Shows what would be signed in, and asks. */
function Question({ asked, onDone }: { asked: Waiting; onDone: (done: 'confirmed' | 'denied') => void }) {
  const client = useFoundry()
  const user = useRead('user', async (signal) => (await client.auth.getUser({}, { signal })).user)
  const { selected, program } = asked
  const name = visibleLine(program.program)
  const confirm = useCommand('The program is not signed in', async () => leave(await client.auth.confirmProgramSignIn(selected)))
  const deny = useCommand('The program was not denied', async () => leave(await client.auth.denyProgramSignIn(selected)))
  const answer = async (command: typeof confirm, done: 'confirmed' | 'denied') => {
    if ((await command.run()) === true) onDone(done)
  }
  const failure = confirm.error ?? deny.error
  return (
    <Card title={`Sign in ${name} on ${visibleLine(program.device)}?`}>
      <Stack gap="md">
        <dl className={classes.facts}>
          <Fact name="Program">{name}</Fact>
          <Fact name="Machine">{visibleLine(program.device)}</Fact>
          <Fact name="Asks from">{program.address === '' ? 'an unknown address' : visibleLine(program.address)}</Fact>
          <Fact name="Asked">
            <RelativeTime time={program.createTime} ago />
          </Fact>
          {user.data !== undefined && <Fact name="As">{visibleLine(user.data.login)}</Fact>}
        </dl>
        <p className={classes.text}>
          It will act as you in all your organizations, until you end it under “Devices and sessions”. Its names are what it says about
          itself: confirm only if you have started it yourself just now.
        </p>
        {user.error !== undefined && <ErrorState error={user.error} title="Your user could not be loaded" onRetry={user.reload} compact />}
        {failure !== undefined && <ErrorState error={failure} title="The answer was not accepted" compact />}
        <Group grow>
          <Button variant="default" loading={deny.busy} disabled={confirm.busy} onClick={() => void answer(deny, 'denied')}>
            Deny
          </Button>
          {/* As whom is half of the question. */}
          <Button loading={confirm.busy} disabled={deny.busy || user.data === undefined} onClick={() => void answer(confirm, 'confirmed')}>
            Sign in
          </Button>
        </Group>
      </Stack>
    </Card>
  )
}

/** Goes back to a program on this machine, if one waits for the browser. */
function leave({ redirectUrl }: { readonly redirectUrl: string }): true {
  if (redirectUrl === '') return true
  const to = loopbackUrl(redirectUrl)
  if (to === undefined) throw new FoundryError({ code: Code.Internal, message: 'The way back to the program cannot be used.' })
  location.assign(to)
  return true
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <>
      <dt>{name}</dt>
      <dd>
        <bdi>{children}</bdi>
      </dd>
    </>
  )
}

function Ended({ done }: { done: 'confirmed' | 'denied' }) {
  return (
    <Card title={done === 'confirmed' ? 'The program is signed in' : 'The program was denied'}>
      <p className={classes.text} role="status">
        {done === 'confirmed' ? 'You can close this page and go back to the program.' : 'It gets no session.'}{' '}
        <Link href={paths.home}>Go to your tasks</Link>
      </p>
    </Card>
  )
}

import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { Code, FoundryError, topics } from '@foundry/client'
import { ProgramSignInSchema } from '@foundry/client/gen/foundry/auth/v1/program_sign_in_pb'
import { fireEvent, render, screen, waitFor } from '@testing-library/react'
import { expect, test } from 'vitest'
import { App } from '../app/App'
import { FakeFoundry, shellItems, type FakeCalls } from '../test/fakeFoundry'

const CODE = 'BCDF-GHJK'

function program(fields: MessageInitShape<typeof ProgramSignInSchema> = {}) {
  const createTime = timestampFromMs(Date.now() - 60_000)
  const it = { programSignInId: 'psi_1', program: 'foundry', device: 'laptop', address: '192.0.2.7', createTime, ...fields }
  return { programSignIn: create(ProgramSignInSchema, it) }
}

function openAt(path: string, auth: FakeCalls['auth'], signedOut = false): FakeFoundry {
  history.replaceState(null, '', path)
  const fake = new FakeFoundry({ auth: { getUser: () => ({ user: { login: 'ada' } }), ...auth } })
  fake.show(topics.appShell(), shellItems([{ id: 'org_1', name: 'acme', role: 4 }]))
  if (signedOut) fake.connection.set({ phase: 'signed-out', since: 0, attempt: 0 })
  render(<App client={fake.client} />)
  return fake
}

const made = (fake: FakeFoundry, method: string) => fake.made.filter((it) => it.method === method).map((it) => it.request)

async function type(code: string): Promise<void> {
  fireEvent.change(await screen.findByLabelText('Code'), { target: { value: code } })
  fireEvent.click(screen.getByRole('button', { name: 'Continue' }))
}

test('a typed code shows what would be signed in, as whom and from where, and nothing happens before the button', async () => {
  const fake = openAt('/device', { getProgramSignIn: () => program(), confirmProgramSignIn: () => ({ redirectUrl: '' }) })
  await type(` ${CODE} `)
  await screen.findByRole('heading', { name: 'Sign in foundry on laptop?' })
  const facts = screen.getByText('Asks from').closest('dl')
  await waitFor(() => expect(facts?.textContent).toMatch(/Asks from192\.0\.2\.7Asked1 m.*Asada/))
  expect(made(fake, 'confirmProgramSignIn')).toEqual([])
  fireEvent.click(screen.getByRole('button', { name: 'Sign in' }))
  await screen.findByRole('heading', { name: 'The program is signed in' })
  expect(made(fake, 'confirmProgramSignIn')).toEqual([{ userCode: CODE }])
})

test('nobody is asked to sign a program in without seeing as whom', async () => {
  let fails = true
  const fake = openAt('/device', {
    getProgramSignIn: () => program(),
    getUser: () => {
      if (fails) throw new FoundryError({ code: Code.Unavailable, reason: 'UNAVAILABLE', message: 'not now' })
      return { user: { login: 'ada' } }
    },
  })
  await type(CODE)
  await screen.findByText('Your user could not be loaded')
  const button = screen.getByRole<HTMLButtonElement>('button', { name: 'Sign in' })
  expect(button.disabled).toBe(true)
  fireEvent.click(button)
  expect(screen.getByRole<HTMLButtonElement>('button', { name: 'Deny' }).disabled).toBe(false)
  fails = false
  fireEvent.click(screen.getByRole('button', { name: 'Try again' }))
  await screen.findByText('ada')
  expect(button.disabled).toBe(false)
  expect(made(fake, 'confirmProgramSignIn')).toEqual([])
})

test('a program can be denied', async () => {
  const fake = openAt('/device', { getProgramSignIn: () => program(), denyProgramSignIn: () => ({ redirectUrl: '' }) })
  await type(CODE)
  fireEvent.click(await screen.findByRole('button', { name: 'Deny' }))
  await screen.findByRole('heading', { name: 'The program was denied' })
  expect(made(fake, 'denyProgramSignIn')).toEqual([{ userCode: CODE }])
  expect(made(fake, 'confirmProgramSignIn')).toEqual([])
})

test('a wrong code and a missing one are errors at the form', async () => {
  openAt('/device', {
    getProgramSignIn: () => {
      throw new FoundryError({ code: Code.NotFound, reason: 'USER_CODE_UNKNOWN', message: 'no program waits for this code' })
    },
  })
  await type(' ')
  await screen.findByText('The code is required.')
  await type(CODE)
  await screen.findByText('USER_CODE_UNKNOWN')
})

test('an address with an id asks at once, and leads nowhere but to a program of this machine', async () => {
  const fake = openAt('/device/psi_1', {
    getProgramSignIn: () => program(),
    confirmProgramSignIn: () => ({ redirectUrl: 'https://evil.example/?code=c' }),
  })
  await screen.findByText('ada')
  fireEvent.click(screen.getByRole('button', { name: 'Sign in' }))
  await screen.findByText('The way back to the program cannot be used.')
  expect(made(fake, 'getProgramSignIn')).toEqual([{ programSignInId: 'psi_1' }])
  expect(location.pathname).toBe('/device/psi_1')
})

test('who is not signed in signs in first and comes back', async () => {
  const fake = openAt('/device/psi_1', { getProgramSignIn: () => program() }, true)
  await waitFor(() => expect(location.pathname).toBe('/sign-in'))
  expect(history.state).toMatchObject({ returnTo: '/device/psi_1' })
  expect(made(fake, 'getProgramSignIn')).toEqual([])
})

test('hostile names of a program are inert', async () => {
  openAt('/device', { getProgramSignIn: () => program({ program: '<img src=x>', device: '\u202epotpal' }) })
  await type(CODE)
  await screen.findByRole('heading', { name: 'Sign in <img src=x> on ⟦RLO⟧potpal?' })
  expect(document.querySelector('main img[src]')).toBeNull()
  expect(document.body.innerHTML).not.toContain('\u202e')
})

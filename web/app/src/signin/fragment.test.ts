import { afterEach, expect, test } from 'vitest'
import { nameProblem, parseFragment, signInState, takeFragment } from './fragment'

afterEach(() => history.replaceState(null, '', '/'))

test('a link carries secret, login and organization', () => {
  expect(parseFragment('#secret=a%2Bb%3D&login=grace&organization=acme')).toEqual({ secret: 'a+b=', login: 'grace', organization: 'acme' })
  expect(parseFragment('#secret=s')).toEqual({ secret: 's', login: '', organization: '' })
})

test('a fragment without a secret is no link', () => {
  expect(parseFragment('')).toBeUndefined()
  expect(parseFragment('#login=grace')).toBeUndefined()
  expect(parseFragment('#secret=')).toBeUndefined()
})

test('a taken link is gone from the address, and the history entry keeps its state', () => {
  history.replaceState({ returnTo: '/o/org_1' }, '', '/sign-in?x=1#secret=s&login=grace')
  expect(takeFragment()?.secret).toBe('s')
  expect(location.pathname + location.search + location.hash).toBe('/sign-in?x=1')
  expect(history.state).toEqual({ returnTo: '/o/org_1' })
  expect(takeFragment()).toBeUndefined()
})

test('after sign-in only paths of this page are returned to', () => {
  expect(signInState({ returnTo: '/o/org_1/t/task_1?x#y', ended: true })).toEqual({ returnTo: '/o/org_1/t/task_1?x#y', ended: true })
  for (const returnTo of ['//evil.example', '/\\evil.example', 'https://evil.example', 'javascript:alert(1)', '/sign-in', 7, undefined]) {
    expect(signInState({ returnTo }).returnTo).toBe('/')
  }
  expect(signInState(null)).toEqual({ returnTo: '/', ended: false })
})

test('names are 1 to 39 characters of a-z, 0-9 and hyphen', () => {
  expect(nameProblem('grace-2', 'Login')).toBeUndefined()
  for (const bad of ['', 'Grace', 'a b', 'x'.repeat(40)]) expect(nameProblem(bad, 'Login')).toContain('Login')
})

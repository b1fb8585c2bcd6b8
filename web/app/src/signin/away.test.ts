import { afterEach, expect, test } from 'vitest'
import { leaveFor, takeReturn } from './away'
import { refusal } from './reasons'

afterEach(() => {
  history.replaceState(null, '', '/')
  sessionStorage.clear()
})

const away = { signInId: 'sgn_1', claim: 'secret', returnTo: '/o/org_1' }

test('a sign-in that this tab began comes back once, and leaves address and storage', () => {
  leaveFor(away)
  history.replaceState({ x: 1 }, '', '/sign-in?sign_in=sgn_1')
  expect(takeReturn()).toEqual({ kind: 'back', away })
  expect(location.pathname + location.search).toBe('/sign-in')
  expect(history.state).toEqual({ x: 1 })
  expect(sessionStorage.length).toBe(0)
  history.replaceState(null, '', '/sign-in?sign_in=sgn_1')
  expect(takeReturn()).toEqual({ kind: 'refused', reason: 'SIGN_IN_UNKNOWN' })
})

test('a sign-in of another tab or browser is none of this one', () => {
  history.replaceState(null, '', '/sign-in?sign_in=sgn_2')
  leaveFor(away)
  expect(takeReturn()).toEqual({ kind: 'refused', reason: 'SIGN_IN_UNKNOWN' })
  sessionStorage.setItem('foundry-sign-in', '{"signInId":7}')
  history.replaceState(null, '', '/sign-in?sign_in=sgn_1')
  expect(takeReturn()).toEqual({ kind: 'refused', reason: 'SIGN_IN_UNKNOWN' })
  history.replaceState(null, '', '/sign-in')
  expect(takeReturn()).toBeUndefined()
})

test('only a path of this page is opened afterwards', () => {
  for (const returnTo of ['//evil.example', '/\\evil.example', 'https://evil.example', 'javascript:alert(1)', '/sign-in']) {
    leaveFor({ ...away, returnTo })
    history.replaceState(null, '', '/sign-in?sign_in=sgn_1')
    expect(takeReturn()).toEqual({ kind: 'back', away: { ...away, returnTo: '/' } })
  }
})

test('nothing of the address is shown but reasons that are known', () => {
  expect(refusal('SIGN_IN_EXPIRED').reason).toBe('SIGN_IN_EXPIRED')
  for (const other of ['<img src=x>', 'constructor', '__proto__', '']) {
    expect(refusal(other).reason).toBe('SIGN_IN_INTERRUPTED')
    expect(refusal(other).message).not.toContain('<')
  }
})

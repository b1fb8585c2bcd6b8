import { afterEach, expect, test } from 'vitest'
import { forgetReturn, leaveFor, takeReturn } from './away'
import { refusal } from './reasons'

afterEach(() => {
  history.replaceState(null, '', '/')
  sessionStorage.clear()
})

const away = { signInId: 'sgn_1', claim: 'secret', returnTo: '/o/org_1' }

const back = { ...away, returnSecret: 'back' }

test('a sign-in that this tab began comes back and leaves the address at once, the storage when it is answered', () => {
  leaveFor(away)
  expect(takeReturn()).toBeUndefined()
  history.replaceState({ x: 1 }, '', '/sign-in?sign_in=sgn_1#return=back')
  expect(takeReturn()).toEqual({ kind: 'back', back })
  expect(location.pathname + location.search + location.hash).toBe('/sign-in')
  expect(history.state).toEqual({ x: 1 })
  expect(takeReturn()).toEqual({ kind: 'back', back })
  forgetReturn()
  expect(sessionStorage.length).toBe(0)
  expect(takeReturn()).toBeUndefined()
  history.replaceState(null, '', '/sign-in?sign_in=sgn_1#return=back')
  expect(takeReturn()).toEqual({ kind: 'refused', reason: 'SIGN_IN_UNKNOWN' })
})

test('a way back without its secret opens nothing', () => {
  for (const hash of ['', '#return=', '#secret=back']) {
    leaveFor(away)
    history.replaceState(null, '', `/sign-in?sign_in=sgn_1${hash}`)
    expect(takeReturn()).toEqual({ kind: 'refused', reason: 'SIGN_IN_UNKNOWN' })
  }
})

test('a sign-in of another tab or browser is none of this one', () => {
  history.replaceState(null, '', '/sign-in?sign_in=sgn_2#return=back')
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
    history.replaceState(null, '', '/sign-in?sign_in=sgn_1#return=back')
    expect(takeReturn()).toEqual({ kind: 'back', back: { ...back, returnTo: '/' } })
  }
})

test('nothing of the address is shown but reasons that are known', () => {
  expect(refusal('SIGN_IN_EXPIRED').reason).toBe('SIGN_IN_EXPIRED')
  for (const other of ['<img src=x>', 'constructor', '__proto__', '']) {
    expect(refusal(other).reason).toBe('SIGN_IN_INTERRUPTED')
    expect(refusal(other).message).not.toContain('<')
  }
})

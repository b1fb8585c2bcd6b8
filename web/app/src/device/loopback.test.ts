import { expect, test } from 'vitest'
import { loopbackUrl } from './loopback'

test('a browser is sent to a program of this machine and nowhere else', () => {
  const good = 'http://127.0.0.1:40123/?code=c&state=s'
  expect(loopbackUrl(good)).toBe(good)
  for (const bad of [
    '',
    '/o/org_1',
    '//evil.example/',
    'javascript:alert(1)',
    'https://127.0.0.1:40123/',
    'http://127.0.0.1/',
    'http://localhost:40123/',
    'http://127.0.0.1.evil.example:40123/',
    'http://127.0.0.1:40123@evil.example/',
    'http://127.0.0.1:40123/elsewhere?code=c',
  ]) {
    expect(loopbackUrl(bad), bad).toBeUndefined()
  }
})

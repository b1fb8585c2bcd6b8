import { expect, test } from 'vitest'
import { byteLength } from './size'

test('the length of a text is counted in bytes', () => {
  expect(byteLength('aä👩')).toBe(7)
})

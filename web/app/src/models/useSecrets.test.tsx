import { renderHook } from '@testing-library/react'
import { expect, test } from 'vitest'
import { useSecrets } from './useSecrets'

test('a secret outlives its field, which another choice in the form brings back', () => {
  const { result } = renderHook(() => useSecrets())
  const field = () => document.createElement('input')
  const [first, second] = [field(), field()]
  result.current.field('a')(first)
  first.value = 'typed'
  result.current.field('a')(null)
  expect(result.current.given()).toEqual([])
  result.current.field('a')(second)
  expect(second.value).toBe('typed')
  expect(result.current.given()).toEqual(['a'])
})

test('a secret that was sent does not come back with its field', () => {
  const { result } = renderHook(() => useSecrets())
  const field = document.createElement('input')
  result.current.field('a')(field)
  field.value = 'typed'
  result.current.take()
  result.current.field('a')(null)
  result.current.field('a')(field)
  expect(field.value).toBe('')
})

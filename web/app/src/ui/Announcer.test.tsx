import { act, render, screen } from '@testing-library/react'
import { expect, test } from 'vitest'
import { announce, Announcer } from './Announcer'

test('the same sentence said twice is a change of the page twice, or nobody hears it again', () => {
  render(<Announcer />)
  act(() => announce('Copied'))
  const before = screen.getByText('Copied')
  act(() => announce('Copied'))
  expect(screen.getByText('Copied')).not.toBe(before)
  expect(screen.getAllByText('Copied')).toHaveLength(1)
})

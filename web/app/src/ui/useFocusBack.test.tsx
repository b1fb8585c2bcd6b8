import { act, render, screen } from '@testing-library/react'
import { useState } from 'react'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { useFocusBack } from './useFocusBack'

beforeEach(() => vi.useFakeTimers())
afterEach(() => vi.useRealTimers())

function Page({ takes = false }: { takes?: boolean }) {
  const [opened, setOpened] = useState(false)
  useFocusBack(opened)
  return (
    <>
      <button type="button" onClick={() => setOpened(true)}>
        Open
      </button>
      {/* biome-ignore lint/a11y/noAutofocus: that the focus moves is the test */}
      {opened && <input aria-label="Field" autoFocus />}
      {opened && (
        <button type="button" onClick={() => setOpened(false)}>
          Close
        </button>
      )}
      {takes && !opened && <input aria-label="Other" />}
    </>
  )
}

function openAndClose(): void {
  screen.getByText('Open').focus()
  act(() => screen.getByText('Open').click())
  expect(document.activeElement).toBe(screen.getByLabelText('Field'))
  act(() => screen.getByText('Close').click())
}

it('gives the focus back to what opened a dialog when the dialog is taken out of the page', () => {
  render(<Page />)
  openAndClose()
  vi.runAllTimers()
  expect(document.activeElement).toBe(screen.getByText('Open'))
})

it('leaves the focus where it went meanwhile', () => {
  render(<Page takes />)
  openAndClose()
  screen.getByLabelText('Other').focus()
  vi.runAllTimers()
  expect(document.activeElement).toBe(screen.getByLabelText('Other'))
})

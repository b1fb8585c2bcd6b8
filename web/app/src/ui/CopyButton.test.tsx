import { MantineProvider } from '@mantine/core'
import { fireEvent, render, screen, waitFor } from '@testing-library/react'
import { expect, test, vi } from 'vitest'
import { Announcer, clearAnnouncement } from './Announcer'
import { CopyButton } from './CopyButton'

function open() {
  clearAnnouncement()
  render(
    <MantineProvider env="test">
      <CopyButton value="x" label="Copy path" />
      <Announcer />
    </MantineProvider>,
  )
  fireEvent.click(screen.getByRole('button', { name: 'Copy path' }))
}

test('what was copied is said to be', async () => {
  vi.spyOn(navigator.clipboard, 'writeText').mockResolvedValue()
  open()
  await waitFor(() => expect(screen.getByRole('status').textContent).toBe('Copied'))
})

test('what could not be copied is not said to be copied', async () => {
  vi.spyOn(navigator.clipboard, 'writeText').mockRejectedValue(new Error('not allowed'))
  open()
  await waitFor(() => expect(screen.getByRole('alert').textContent).toBe('Copying failed'))
  expect(screen.getByRole('status').textContent).toBe('')
})

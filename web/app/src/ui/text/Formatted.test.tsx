import { MantineProvider } from '@mantine/core'
import { act, fireEvent, render, screen } from '@testing-library/react'
import { expect, it, vi } from 'vitest'
import { Formatted, FormattingMissing } from './Formatted'

const file = vi.hoisted(() => ({ missing: true, parse: undefined as unknown }))

vi.mock('./Markdown', () => {
  if (file.missing) throw new Error('no such file')
  return { Markdown: ({ text }: { text: string }) => <p>formatted: {text}</p> }
})

it('shows words as they are while the code that formats them is missing, says so, and formats them later', async () => {
  render(
    <MantineProvider env="test">
      <FormattingMissing />
      <Formatted label="m" text="**bold** words" />
    </MantineProvider>,
  )
  screen.getByText('**bold** words')
  expect(screen.queryByRole('alert')).toBeNull()
  expect((await screen.findByRole('alert')).textContent).toContain('Messages are shown without their formatting')
  screen.getByText('**bold** words')
  file.missing = false
  await act(async () => fireEvent.click(screen.getByRole('button', { name: 'Try again' })))
  await screen.findByText('formatted: **bold** words')
  expect(screen.queryByRole('alert')).toBeNull()
})

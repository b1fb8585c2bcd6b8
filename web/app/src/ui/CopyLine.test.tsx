import { MantineProvider } from '@mantine/core'
import { fireEvent, render, screen } from '@testing-library/react'
import { expect, test, vi } from 'vitest'
import { CopyLine } from './CopyLine'
import { visibleLine } from './text/visible'

test('a line shows characters that cannot be seen, and is copied as it is', () => {
  const copied = vi.spyOn(navigator.clipboard, 'writeText').mockResolvedValue()
  const text = 'git fetch origin a\u202eb'
  const { container } = render(
    <MantineProvider env="test">
      <CopyLine text={text} label="Copy the command" />
    </MantineProvider>,
  )
  const shown = container.querySelector('code')?.textContent
  expect(shown).toBe(visibleLine(text))
  expect(shown).not.toContain('\u202e')
  fireEvent.click(screen.getByRole('button', { name: 'Copy the command' }))
  expect(copied).toHaveBeenCalledWith(text)
})

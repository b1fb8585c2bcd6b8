import { screen, waitFor } from '@testing-library/react'
import { beforeEach, expect, it, vi } from 'vitest'
import { aSession, entry } from './test/fakeTask'
import { openTask, prepare } from './test/openTask'

vi.mock('@mantine/hooks', async (original) => ({ ...(await original<typeof import('@mantine/hooks')>()), useMediaQuery: () => false }))
beforeEach(prepare)

it('headings follow one another without a gap, whatever the agent writes', async () => {
  const text = '#### Deep\n\n# High\n\n###### Deepest'
  openTask({ sessions: [aSession({ lastOffset: 1n })], entries: [entry(1, { case: 'agentMessage', value: { text } }, { blockId: 'a' })] })
  await screen.findByText('No changes yet')
  const headings = () => [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map((it) => Number(it.tagName.slice(1)))
  // The agent's text is formatted once the formatter is loaded.
  await waitFor(() => expect(headings().length).toBeGreaterThan(5))
  const levels = headings()
  expect(levels.filter((level, at) => level - (levels[at - 1] ?? 0) > 1)).toEqual([])
})

import { SessionState } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { MantineProvider } from '@mantine/core'
import { fireEvent, render, screen, within } from '@testing-library/react'
import { beforeEach, expect, it, vi } from 'vitest'
import { ShortcutsDialog } from '../shell/ShortcutsDialog'
import { aSession } from './test/fakeTask'
import { message, openTask, prepare } from './test/openTask'

vi.mock('@mantine/hooks', async (original) => ({ ...(await original<typeof import('@mantine/hooks')>()), useMediaQuery: () => false }))
beforeEach(prepare)

const options = [{ optionId: 'yes', name: 'Allow', kind: 'allow_once' }]
const asks = aSession({ state: SessionState.RUNNING, pendingPermission: { permissionId: 'perm-1', title: 'cargo test', options } })
const press = (...keys: string[]) => {
  for (const key of keys) fireEvent.keyDown(document.body, { key })
}

it('keys lead to the field of messages and to the question of the agent', () => {
  openTask({ sessions: [asks] })
  press('g', 'm')
  expect(document.activeElement).toBe(message())
  message().blur()
  press('g', 'q')
  expect(document.activeElement).toBe(
    within(screen.getByRole('region', { name: 'The agent is asking for permission' })).getByRole('button', { name: /Allow/ }),
  )
})

it('the keys of a conversation are listed while one is shown', () => {
  openTask({ sessions: [asks] })
  render(
    <MantineProvider env="test">
      <ShortcutsDialog onClose={() => {}} />
    </MantineProvider>,
  )
  const list = within(screen.getByRole('dialog', { name: 'Shortcuts' }))
  for (const label of [
    'Write a message',
    "Go to the agent's question",
    'Stop the turn',
    'Choose an answer to a question',
    'Send the message',
  ]) {
    expect(list.getByText(label)).toBeTruthy()
  }
})

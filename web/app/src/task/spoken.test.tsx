import { Code, FoundryError, topics } from '@foundry/client'
import { TaskState } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { act, fireEvent, render, screen } from '@testing-library/react'
import { beforeEach, expect, it, vi } from 'vitest'
import { Announcer } from '../ui'
import { aSession, aTask } from './test/fakeTask'
import { openTask, prepare } from './test/openTask'

vi.mock('@mantine/hooks', async (original) => ({ ...(await original<typeof import('@mantine/hooks')>()), useMediaQuery: () => false }))
beforeEach(prepare)

it('a state that a task comes to is said to those who do not see it, and the one it is in is not', () => {
  const world = openTask({ task: aTask({ state: TaskState.RUNNING }) })
  render(<Announcer />)
  const said = () =>
    screen
      .getAllByRole('status')
      .map((it) => it.textContent)
      .join()
  expect(said()).not.toContain('Task running')
  act(() => world.showTask(aTask({ state: TaskState.ERROR }), [aSession()]))
  expect(said()).toContain('Task failed')
})

it('a task that cannot be read can be tried again', () => {
  const world = openTask({})
  const broken = new FoundryError({ code: Code.Internal, reason: 'INTERNAL', message: 'the store is full' })
  act(() => world.fake.show(topics.task('task_1'), [], 'ended', broken))
  fireEvent.click(screen.getByRole('button', { name: 'Try again' }))
  expect(world.fake.made).toContainEqual({ service: 'connection', method: 'reconnectNow', request: undefined })
})

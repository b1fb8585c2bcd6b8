import { topics } from '@foundry/client'
import { FoundryProvider } from '@foundry/client/react'
import type { Session, Task, TranscriptEntry } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { MantineProvider } from '@mantine/core'
import { fireEvent, render, screen } from '@testing-library/react'
import { vi } from 'vitest'
import { shellItems, type FakeCalls } from '../../test/fakeFoundry'
import { TaskPage } from '../TaskPage'
import { aSession, aTask, FakeTask } from './fakeTask'

/** Sets the task's address, and the sizes of elements, because there is no layout. */
export function prepare(): void {
  history.replaceState(null, '', '/o/org_1/t/task_1')
  vi.spyOn(HTMLElement.prototype, 'offsetHeight', 'get').mockReturnValue(600)
  vi.spyOn(HTMLElement.prototype, 'offsetWidth', 'get').mockReturnValue(800)
}

/** Answers to the calls that the page makes without being asked. */
export const calm: FakeCalls = {
  task: { updateDraft: () => ({ rev: 9n }), markRead: () => ({}), listFileChanges: () => ({ files: [], nextPageToken: '' }) },
}

/** The content of a task's page. */
export interface Shown {
  task?: Task
  sessions?: readonly Session[]
  entries?: readonly TranscriptEntry[]
  queue?: Parameters<FakeTask['showSession']>[2]
  calls?: FakeCalls['task']
  attachments?: FakeCalls['attachment']
  role?: number
}

/** Opens the page of a task of organization org_1 as a person with the role. */
export function openTask({
  task = aTask(),
  sessions = [aSession()],
  entries = [],
  queue = [],
  calls = {},
  attachments = {},
  role = 2,
}: Shown): FakeTask {
  const world = new FakeTask({ ...calm, task: { ...calm.task, ...calls }, attachment: attachments })
  world.fake.show(topics.appShell(), shellItems([{ id: 'org_1', name: 'acme', role }]))
  world.fake.show(topics.userState('org_1'), [])
  world.showTask(task, sessions)
  const [first] = sessions
  if (first !== undefined) world.showSession(first, entries, queue)
  render(
    <MantineProvider env="test">
      <FoundryProvider client={world.client}>
        <TaskPage organizationId="org_1" taskId="task_1" />
      </FoundryProvider>
    </MantineProvider>,
  )
  return world
}

/** The requests made to a method. */
export const made = (world: FakeTask, method: string) =>
  world.fake.made.filter((call) => call.method === method).map((call) => call.request as Record<string, unknown>)
/** The field for messages. */
export const message = () => screen.getByRole('textbox', { name: 'Message' })
/** Types into the field for messages. */
export const write = (text: string) => fireEvent.change(message(), { target: { value: text } })

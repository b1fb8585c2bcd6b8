import { create } from '@bufbuild/protobuf'
import { FoundryProvider } from '@foundry/client/react'
import { Role } from '@foundry/client/gen/foundry/common/v1/common_pb'
import { AuditEventSchema, SessionSchema } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { MantineProvider } from '@mantine/core'
import { render, screen, waitFor } from '@testing-library/react'
import { expect, it } from 'vitest'
import { aTask, FakeTask } from '../test/fakeTask'
import Activity, { merged } from './Activity'

const event = (sequence: number, rest: object = {}) => create(AuditEventSchema, { sequence: BigInt(sequence), ...rest })
const numbers = (record: ReturnType<typeof merged>) => record.events.map((it) => Number(it.sequence))

it('records are one list, newest first', () => {
  const whole = merged([
    { events: [event(5), event(1)], more: false },
    { events: [event(4), event(3)], more: false },
  ])
  expect([numbers(whole), whole.more]).toEqual([[5, 4, 3, 1], false])
})

it('a record that goes on hides what is older than its end in the others, so that no gap shows', () => {
  const cut = merged([
    { events: [event(9), event(6)], more: true },
    { events: [event(7), event(2)], more: false },
  ])
  expect([numbers(cut), cut.more]).toEqual([[9, 7, 6], true])
})

it('what was done to the sessions is there too, and others go by their logins, which are read once', async () => {
  const task = aTask()
  const session = create(SessionSchema, { sessionId: 'ses_1', name: 'main' })
  const world = new FakeTask({
    task: {
      listAuditEvents: (request: { subject: string }) => ({
        events: [
          request.subject === 'ses_1'
            ? event(2, { actor: 'usr_bob', action: 'session.send', subject: 'ses_1' })
            : event(1, { actor: 'usr_carol', action: 'task.create', subject: task.taskId }),
        ],
        nextPageToken: '',
      }),
    },
    auth: {
      listMembers: () => ({
        members: [
          { userId: 'usr_bob', login: 'bob' },
          { userId: 'usr_carol', login: 'carol' },
        ],
        nextPageToken: '',
      }),
    },
  })
  const viewer = { organizationId: 'org_1', userId: 'usr_1', role: Role.OWNER, canEdit: true, audits: true }
  render(
    <MantineProvider env="test">
      <FoundryProvider client={world.client}>
        <Activity task={task} sessions={[session]} viewer={viewer} />
      </FoundryProvider>
    </MantineProvider>,
  )
  await waitFor(() => expect(screen.getByText('bob')).toBeTruthy())
  expect(screen.getAllByRole('listitem').map((it) => it.querySelector('code')?.textContent)).toEqual(['session.send', 'task.create'])
  expect(screen.getByText('carol')).toBeTruthy()
  expect(screen.getAllByRole('listitem')[0]?.textContent).toContain('Session main')
  expect(world.fake.made.filter((call) => call.method === 'listMembers')).toHaveLength(1)
})

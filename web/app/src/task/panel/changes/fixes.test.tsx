import type { MessageInitShape } from '@bufbuild/protobuf'
import { topics } from '@foundry/client'
import { ChecksState, PullRequestReview, PullRequestState, type PullRequestSchema } from '@foundry/client/gen/foundry/common/v1/work_pb'
import { FoundryProvider } from '@foundry/client/react'
import type { AutoFixSchema } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { FixSubject } from '@foundry/client/gen/foundry/task/v1/task_service_pb'
import { MantineProvider } from '@mantine/core'
import { fireEvent, render, screen, waitFor } from '@testing-library/react'
import { describe, expect, it } from 'vitest'
import { shellItems } from '../../../test/fakeFoundry'
import { aTask, FakeTask } from '../../test/fakeTask'
import { Fixes } from './Fixes'

const failing: MessageInitShape<typeof PullRequestSchema> = {
  number: 7n,
  state: PullRequestState.OPEN,
  checks: { state: ChecksState.FAILED, failed: 1, failing: ['build'] },
  review: PullRequestReview.CHANGES_REQUESTED,
  remarks: [{ reviewer: 'ann', path: 'src/\u202Ea.rs', line: 3, text: '<b>Why?</b>', wantsChanges: true }],
}

function open(pullRequest: MessageInitShape<typeof PullRequestSchema>, autoFix?: MessageInitShape<typeof AutoFixSchema>, role = 2) {
  const world = new FakeTask({ task: { requestFix: () => ({}), setAutoFix: () => ({}) } })
  world.fake.show(topics.appShell(), shellItems([{ id: 'org_1', name: 'acme', role }]))
  const task = aTask({ changes: { version: 1n, publication: { branch: 'feat/x', commit: 'b', pullRequest } }, autoFix })
  render(
    <MantineProvider env="test">
      <FoundryProvider client={world.client}>
        <Fixes task={task} />
      </FoundryProvider>
    </MantineProvider>,
  )
  const asked = (method: string) => world.fake.made.filter((it) => it.method === method).map((it) => it.request)
  return { asked }
}

const press = (name: string) => fireEvent.click(screen.getByRole('button', { name }))

describe('what has failed at a pull request', () => {
  it('is sent to the agent with one click, checks and reviews apart', async () => {
    const { asked } = open(failing)
    expect(screen.getByRole('list', { name: 'What reviewers have written' }).textContent).toBe(
      'ann, who wants changes, on src/⟦RLO⟧a.rs, line 3<b>Why?</b>',
    )
    press('Send failed checks to the agent')
    await waitFor(() => expect(asked('requestFix')).toMatchObject([{ taskId: 'task_1', subject: FixSubject.CHECKS }]))
    await waitFor(() => expect(screen.getByRole('button', { name: 'Send review to the agent' })).toHaveProperty('disabled', false))
    press('Send review to the agent')
    await waitFor(() => expect(asked('requestFix')[1]).toMatchObject({ subject: FixSubject.REVIEW }))
  })

  it('is sent with one click also where a reviewer has only commented, and says what is not shown', async () => {
    const remarks = [{ reviewer: 'ben', path: 'a.rs', line: 0, text: 'Shorter?' }]
    const { asked } = open({
      ...failing,
      checks: { state: ChecksState.PASSED },
      review: PullRequestReview.NONE,
      remarks,
      remarksLeftOut: 2,
    })
    const list = screen.getByRole('list', { name: 'What reviewers have written' }).textContent
    expect(list).toBe('ben on a.rsShorter?and 2 more remarks, which only the pull request shows')
    expect(screen.queryByRole('button', { name: 'Send failed checks to the agent' })).toBeNull()
    press('Send review to the agent')
    await waitFor(() => expect(asked('requestFix')).toMatchObject([{ subject: FixSubject.REVIEW }]))
  })

  it('is sent by the rule of the task, which shows its count and why it has stopped', async () => {
    const stopped = { reason: 'AUTO_FIX_LIMIT', message: 'the pull request still fails', nextAction: 'look at it' }
    const { asked } = open(failing, { enabled: true, tries: 2, maxTries: 2, stopped })
    expect(screen.getByText('2 messages of at most 2 sent')).toBeTruthy()
    expect(screen.getByText('AUTO_FIX_LIMIT')).toBeTruthy()
    press('Let it go on')
    await waitFor(() => expect(asked('setAutoFix')).toMatchObject([{ taskId: 'task_1', enabled: true, maxTries: 2 }]))
    await waitFor(() => expect(screen.getByRole('checkbox')).toHaveProperty('disabled', false))
    fireEvent.click(screen.getByRole('checkbox', { name: /by itself/ }))
    await waitFor(() => expect(asked('setAutoFix')[1]).toMatchObject({ enabled: false }))
  })

  it('offers nothing to readers, and nothing where all is well or over', () => {
    open({ ...failing, checks: { state: ChecksState.PASSED }, review: PullRequestReview.APPROVED, remarks: [] })
    expect(screen.queryByRole('button')).toBeNull()
    document.body.replaceChildren()
    open(failing, undefined, 1)
    expect(screen.queryByRole('button')).toBeNull()
    document.body.replaceChildren()
    open({ ...failing, state: PullRequestState.MERGED })
    expect(screen.queryByRole('region')).toBeNull()
  })
})

import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { FoundryError, topics } from '@foundry/client'
import { FoundryProvider } from '@foundry/client/react'
import {
  JobBranchState,
  JobItemSchema,
  JobKind,
  JobState,
  ParentSource,
  type JobItem,
  type JobSchema,
} from '@foundry/client/gen/foundry/repo/v1/job_pb'
import { BranchOverviewSchema, RepositorySchema } from '@foundry/client/gen/foundry/repo/v1/repo_pb'
import { OrganizationItemSchema, SessionState, type OrganizationItem } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { MantineProvider } from '@mantine/core'
import { Code } from '@connectrpc/connect'
import { act, fireEvent, render, screen, waitFor, within } from '@testing-library/react'
import { expect, test, vi } from 'vitest'
import { FrameContext, type Frame } from '../../shell/frame'
import { OrganizationProvider } from '../../state/organization'
import { FakeFoundry, shellItems, type FakeCalls } from '../../test/fakeFoundry'
import ActionForm from './ActionForm'
import { branchText, conflictPrompt } from './words'

const commit = (digit: string) => digit.repeat(40)
const repository = create(RepositorySchema, { repositoryId: 'repo_1', organizationId: 'org_1', defaultBranch: 'main' })
const branches = ['main', 's1', 's2'].map((name) => create(BranchOverviewSchema, { name }))

function aJob(jobId: string, rest: MessageInitShape<typeof JobSchema>): [string, JobItem] {
  const counts = new Map<JobBranchState, number>()
  for (const { state } of rest.branches ?? []) counts.set(state ?? 0, (counts.get(state ?? 0) ?? 0) + 1)
  const branchCounts = [...counts].map(([state, count]) => ({ state, count }))
  const job = {
    branchCount: rest.branches?.length ?? 0,
    branchCounts,
    jobId,
    organizationId: 'org_1',
    repositoryId: 'repo_1',
    createTime: timestampFromMs(1_000),
    ...rest,
  }
  return [`job/${jobId}`, create(JobItemSchema, { item: { case: 'job', value: job } })]
}

function open(
  branch: string,
  task: FakeCalls['task'] = { createTask: () => ({ task: { taskId: 'task_9' } }) },
  tasks: { taskId: string; title: string; branch: string }[] = [],
) {
  let made = 0
  const fake = new FakeFoundry({
    repo: {
      runRepositoryAction: () => {
        made += 1
        return { job: { jobId: `job_${made}` } }
      },
      undoJob: () => ({}),
      getJob: ({ jobId }) => ({ job: { jobId, state: JobState.DONE, branches: [planned(), planned({ branch: 's2' })] } }),
    },
    task,
  })
  fake.show(topics.appShell(), shellItems([{ id: 'org_1', name: 'acme', role: 2 }]))
  const show = (...jobs: [string, JobItem][]) => act(() => fake.show(topics.jobs('org_1', 'repo_1'), jobs))
  fake.show(topics.jobs('org_1', 'repo_1'), [])
  const item = (value: object) => create(OrganizationItemSchema, { item: { case: 'task', value: { repositoryId: 'repo_1', ...value } } })
  fake.show(
    topics.organization('org_1'),
    tasks.map((it): [string, OrganizationItem] => [`task/${it.taskId}`, item(it)]),
  )
  render(
    <MantineProvider env="test">
      <FoundryProvider client={fake.client}>
        <OrganizationProvider organizationId="org_1">
          <FrameContext.Provider value={{ canWrite: true, onNewTask: vi.fn() } as unknown as Frame}>
            <ActionForm repository={repository} branches={branches} branch={branch} onClose={vi.fn()} />
          </FrameContext.Provider>
        </OrganizationProvider>
      </FoundryProvider>
    </MantineProvider>,
  )
  const asked = (method: string) => fake.made.filter((it) => it.method === method).map((it) => it.request as Record<string, unknown>)
  return { show, asked }
}

const press = (name: string) => fireEvent.click(screen.getByRole('button', { name }))

const planned = (more: object = {}) => ({
  branch: 's1',
  state: JobBranchState.PLANNED,
  oldCommit: commit('a'),
  newCommit: commit('b'),
  parent: 'main',
  commitCount: 2n,
  ...more,
})

test('a plan is shown before it is pushed, and the push is of that plan', async () => {
  const { show, asked } = open('s1')
  press('Show plan')
  await waitFor(() => expect(asked('runRepositoryAction')).toHaveLength(1))
  expect(asked('runRepositoryAction')[0]).toMatchObject({ kind: JobKind.RESTACK_SUBTREE, branch: 's1', planOnly: true, planJobId: '' })
  const action = { branch: 's1', planOnly: true }
  const plan = aJob('job_1', { kind: JobKind.RESTACK_SUBTREE, state: JobState.DONE, action, branches: [planned()] })
  show(plan)
  const shown = await screen.findByRole('region', { name: 'Plan' })
  expect(shown.textContent).toContain('Restack s1: a plan for 1 branch')
  expect(shown.textContent).toContain('s1: aaaaaaaaaaaa → bbbbbbbbbbbb, on main, 2 commits made again')
  press('Push 1 branch')
  await waitFor(() => expect(asked('runRepositoryAction')).toHaveLength(2))
  expect(asked('runRepositoryAction')[1]).toMatchObject({ planOnly: false, planJobId: 'job_1' })
  const pushed = [planned({ state: JobBranchState.PUSHED })]
  show(plan, aJob('job_2', { kind: JobKind.RESTACK_SUBTREE, state: JobState.DONE, action: { branch: 's1' }, branches: pushed }))
  const done = await screen.findByRole('region', { name: 'Action' })
  fireEvent.click(within(done).getByRole('button', { name: 'Undo' }))
  await waitFor(() => expect(asked('undoJob')[0]).toMatchObject({ jobId: 'job_2' }))
})

test('a plan names the open tasks on the branches that it replaces', async () => {
  const { show } = open('s1', undefined, [{ taskId: 'task_7', title: 'Fix \u202E it', branch: 's1' }])
  press('Show plan')
  const stays = planned({ branch: 's2', state: JobBranchState.SKIPPED })
  show(aJob('job_1', { kind: JobKind.RESTACK_SUBTREE, state: JobState.DONE, action: { planOnly: true }, branches: [planned(), stays] }))
  const shown = await screen.findByRole('region', { name: 'Plan' })
  expect(shown.textContent).toContain('The open task Fix ⟦RLO⟧ it (task_7) has this branch')
  expect(within(shown).getAllByText(/The open task/)).toHaveLength(1)
})

test('a refused undo offers the branches that have not moved', async () => {
  const { show, asked } = open('s1')
  const refused = planned({ branch: 's0', state: JobBranchState.REFUSED })
  const action = { undoneJobId: 'job_1' }
  show(aJob('job_2', { kind: JobKind.UNDO, state: JobState.FAILED, action, branches: [refused, planned({ branch: 's1' })] }))
  fireEvent.click(await screen.findByRole('button', { name: 'Undo the others' }))
  await waitFor(() => expect(asked('undoJob')[0]).toMatchObject({ jobId: 'job_1', branches: ['s1', 's2'] }))
})

test('another action is another plan, with a new parent where one is needed', async () => {
  const { show, asked } = open('s2')
  press('Show plan')
  await waitFor(() => expect(asked('runRepositoryAction')).toHaveLength(1))
  show(aJob('job_1', { state: JobState.DONE, action: { branch: 's2', planOnly: true }, branches: [planned({ branch: 's2' })] }))
  expect(await screen.findByRole('button', { name: 'Push 1 branch' })).toBeTruthy()
  fireEvent.change(screen.getByLabelText('Action'), { target: { value: String(JobKind.REPARENT_BRANCH) } })
  expect(screen.queryByRole('button', { name: 'Push 1 branch' })).toBeNull()
  fireEvent.change(screen.getByLabelText('New parent'), { target: { value: 's1' } })
  press('Show plan')
  await waitFor(() => expect(asked('runRepositoryAction')).toHaveLength(2))
  expect(asked('runRepositoryAction')[1]).toMatchObject({ kind: JobKind.REPARENT_BRANCH, branch: 's2', parent: 's1' })
})

test('a branch is rebased onto its parent, or onto another one', async () => {
  const { asked } = open('s2')
  fireEvent.change(screen.getByLabelText('Action'), { target: { value: String(JobKind.REBASE_BRANCH) } })
  press('Show plan')
  await waitFor(() => expect(asked('runRepositoryAction')[0]).toMatchObject({ kind: JobKind.REBASE_BRANCH, branch: 's2', parent: '' }))
  fireEvent.change(screen.getByLabelText('Onto'), { target: { value: 's1' } })
  press('Show plan')
  await waitFor(() => expect(asked('runRepositoryAction')[1]).toMatchObject({ branch: 's2', parent: 's1' }))
})

test('a repository is synchronized, and a branch that was pushed is registered, without a plan', async () => {
  const { show, asked } = open('')
  fireEvent.change(screen.getByLabelText('Action'), { target: { value: String(JobKind.REGISTER_EXISTING_BRANCH) } })
  expect((screen.getByRole('button', { name: 'Register' }) as HTMLButtonElement).disabled).toBe(true)
  fireEvent.change(screen.getByLabelText('Branch'), { target: { value: ' feat/new ' } })
  press('Register')
  const register = { kind: JobKind.REGISTER_EXISTING_BRANCH, branch: 'feat/new', parent: '', planOnly: false }
  await waitFor(() => expect(asked('runRepositoryAction')[0]).toMatchObject(register))
  show(aJob('job_1', { kind: JobKind.REGISTER_EXISTING_BRANCH, state: JobState.DONE, action: { branch: 'feat/new' } }))
  expect((await screen.findByRole('region', { name: 'Action' })).textContent).toContain('Register feat/new: done')
  fireEvent.change(screen.getByRole('combobox', { name: 'Action' }), { target: { value: String(JobKind.SYNC_REPO) } })
  expect(screen.queryByRole('button', { name: 'Show plan' })).toBeNull()
  press('Synchronize')
  await waitFor(() => expect(asked('runRepositoryAction')[1]).toMatchObject({ kind: JobKind.SYNC_REPO, branch: '', parent: '' }))
})

test('a conflict names its files and can be handed to an agent', async () => {
  const { show, asked } = open('')
  const conflict = planned({
    branch: 's1\u202e',
    state: JobBranchState.CONFLICT,
    conflictCommit: commit('c'),
    conflictFiles: ['a.txt', 'b.txt'],
  })
  const condition = { reason: 'RESTACK_CONFLICT', message: 's1 is in conflict', nextAction: 'resolve it' }
  show(aJob('job_7', { kind: JobKind.RESTACK_REPO, state: JobState.FAILED, action: {}, condition, branches: [conflict] }))
  const earlier = await screen.findByRole('region', { name: 'Earlier action 1' })
  expect(earlier.textContent).toContain('commit cccccccccccc is in conflict with main in a.txt, b.txt')
  expect(earlier.textContent).not.toContain('\u202e')
  press('Have an agent resolve it')
  await waitFor(() => expect(asked('createTask')).toHaveLength(1))
  expect(asked('createTask')[0]?.['prompt']).toContain('- a.txt\n- b.txt')
  press('Show plan')
  await waitFor(() => expect(asked('runRepositoryAction')[0]).toMatchObject({ kind: JobKind.RESTACK_REPO, branch: '', parent: '' }))
})

test('a conflict of a branch that an open task has is handed to that task', async () => {
  const taken = new FoundryError({
    code: Code.FailedPrecondition,
    message: 'the task task_1 works on the branch s1',
    reason: 'BRANCH_HAS_TASK',
    metadata: { task_id: 'task_1' },
  })
  const sessions = [
    { sessionId: 'sess_1', state: SessionState.IDLE },
    { sessionId: 'sess_2', state: SessionState.CLOSED },
  ]
  const { show, asked } = open('', {
    createTask: () => {
      throw taken
    },
    getTask: () => ({ task: { taskId: 'task_1' }, sessions }),
    sendMessage: () => ({}),
  })
  const conflict = planned({ state: JobBranchState.CONFLICT, newCommit: '', conflictCommit: commit('c'), conflictFiles: ['a.txt'] })
  show(aJob('job_7', { kind: JobKind.RESTACK_REPO, state: JobState.FAILED, action: {}, branches: [conflict] }))
  await screen.findByRole('region', { name: 'Earlier action 1' })
  press('Have an agent resolve it')
  await waitFor(() => expect(asked('sendMessage')).toHaveLength(1))
  expect(asked('sendMessage')[0]).toMatchObject({ sessionId: 'sess_1', text: expect.stringContaining('- a.txt') })
})

test('the branches that do not fit on a watch are read when they are asked for', async () => {
  const { show } = open('')
  const counts = { branchCount: 2, branchCounts: [{ state: JobBranchState.PLANNED, count: 2 }] }
  show(aJob('job_7', { kind: JobKind.RESTACK_REPO, state: JobState.DONE, action: {}, branches: [planned()], ...counts }))
  const earlier = await screen.findByRole('region', { name: 'Earlier action 1' })
  expect(earlier.textContent).toContain('a plan for 2 branches')
  expect(within(earlier).getAllByRole('listitem')).toHaveLength(1)
  press('Show 1 more branch')
  await waitFor(() => expect(within(earlier).getAllByRole('listitem')).toHaveLength(2))
  expect(screen.queryByRole('button', { name: 'Show 1 more branch' })).toBeNull()
})

test('a plan says where a parent is known from', () => {
  const text = (more: object) => branchText({ ...planned({ note: '', ...more }) } as never)
  expect(text({ oldParent: 'main', parentSource: ParentSource.USER })).toContain('on main (parent given by a user), 2 commits')
  expect(text({ oldParent: 's0', parentSource: ParentSource.GIT_SPICE })).toContain('on main (before on s0, by git-spice)')
})

test('an agent is asked to rebase only the commits of the branch', () => {
  const prompt = (parent: string, fromCommit: string) =>
    conflictPrompt({ ...planned({ parent, fromCommit, conflictFiles: ['a'], conflictCommit: commit('c') }) } as never)
  expect(prompt('s0', 'abc')).toContain('`git rebase --onto origin/s0 abc`')
  expect(prompt("it's $(id)", 'abc')).toContain("`git rebase --onto 'origin/it'\\''s $(id)' abc`")
  expect(prompt('s0', '')).toContain('`git rebase origin/s0`')
})

test('each state of a branch has its words', () => {
  const text = (state: JobBranchState, note = '') =>
    branchText({ ...planned({ state }), note, conflictFiles: [], conflictCommit: '' } as never)
  expect(text(JobBranchState.SKIPPED, 'it is merged into main')).toBe('stays; it is merged into main')
  expect(text(JobBranchState.REFUSED)).toBe('refused')
  expect(text(JobBranchState.PENDING)).toBe('not planned')
})

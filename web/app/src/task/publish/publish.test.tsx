import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { Code, FoundryError, topics } from '@foundry/client'
import {
  ChecksState,
  PublicationSchema,
  PullRequestReview,
  PullRequestState,
  WorkNoticeKind,
} from '@foundry/client/gen/foundry/common/v1/work_pb'
import { FoundryProvider } from '@foundry/client/react'
import { JobBranchState, JobItemSchema, JobState, type JobItem, type JobSchema } from '@foundry/client/gen/foundry/repo/v1/job_pb'
import { TaskState, type Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { MantineProvider } from '@mantine/core'
import { act, fireEvent, render, screen, waitFor, within } from '@testing-library/react'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { OrganizationProvider } from '../../state/organization'
import { shellItems } from '../../test/fakeFoundry'
import { aTask, FakeTask } from '../test/fakeTask'
import PublishForm from './PublishForm'
import { isOutstanding, planText, publicationText } from './words'

beforeEach(() => localStorage.clear())

const task = aTask({ branch: 'feat/x', title: 'Add a parser', changes: { version: 1n, filesChanged: 1 } })
const commit = (digit: string) => digit.repeat(40)

function aJob(rest: MessageInitShape<typeof JobSchema>): [string, JobItem] {
  const job = { jobId: 'job_1', taskId: 'task_1', createTime: timestampFromMs(1_000), ...rest }
  return [`job/${job.jobId}`, create(JobItemSchema, { item: { case: 'job', value: job } })]
}

function open(answer: () => unknown = () => ({}), pullRequest = false, of: Task = task, proposed?: object) {
  const propose = proposed === undefined ? undefined : { proposePublication: () => proposed }
  const world = new FakeTask({ repo: { publishBranch: answer, publishPullRequest: answer, cancelJob: () => ({}) }, task: propose })
  world.fake.show(topics.appShell(), shellItems([{ id: 'org_1', name: 'acme', role: 2 }]))
  const show = (...jobs: [string, JobItem][]) => act(() => world.fake.show(topics.jobs('org_1', 'repo_1'), jobs))
  world.fake.show(topics.jobs('org_1', 'repo_1'), [])
  render(
    <MantineProvider env="test">
      <FoundryProvider client={world.client}>
        <OrganizationProvider organizationId="org_1">
          <PublishForm task={of} pullRequest={pullRequest} opened onClose={vi.fn()} />
        </OrganizationProvider>
      </FoundryProvider>
    </MantineProvider>,
  )
  const method = pullRequest ? 'publishPullRequest' : 'publishBranch'
  const asked = () => world.fake.made.filter((it) => it.method === method).map((it) => it.request as Record<string, unknown>)
  return { world, show, asked }
}

const press = (name: string) => fireEvent.click(screen.getByRole('button', { name }))

describe('publishing a branch', () => {
  it("asks for the task's own branch with its title and the author, and remembers the author", async () => {
    const { asked } = open()
    fireEvent.change(screen.getByLabelText("Author's e-mail address"), { target: { value: 'ada@example.com' } })
    press('Publish')
    await waitFor(() => expect(asked()).toHaveLength(1))
    expect(asked()[0]).toMatchObject({
      taskId: 'task_1',
      toBranch: '',
      message: 'Add a parser',
      planOnly: false,
      force: false,
      authorName: 'Grace',
      authorEmail: 'ada@example.com',
      agent: 'demo',
    })
    expect(localStorage.getItem('foundry-author-email')).toBe('ada@example.com')
  })

  it('proposes what the agent has said last, unless the user has written something', async () => {
    const texts = { title: 'Parse it right', body: 'It was wrong.' }
    const { asked } = open(undefined, false, task, texts)
    await waitFor(() => expect(screen.getByLabelText('Commit message')).toHaveProperty('value', 'Parse it right\n\nIt was wrong.'))
    press('Publish')
    await waitFor(() => expect(asked()).toHaveLength(1))
    expect(asked()[0]).toMatchObject({ message: 'Parse it right\n\nIt was wrong.' })
    fireEvent.change(screen.getByLabelText('Commit message'), { target: { value: 'My own' } })
    press('Publish')
    await waitFor(() => expect(asked()).toHaveLength(2))
    expect(asked()[1]).toMatchObject({ message: 'My own' })
  })

  it('publishes conflict markers only with a consent of their own, which force does not give', async () => {
    const notices = [{ kind: WorkNoticeKind.OPERATION, count: 1n, detail: 'rebase' }]
    const { asked } = open(undefined, false, aTask({ branch: 'feat/x', changes: { version: 1n, notices } }))
    fireEvent.click(screen.getByRole('checkbox', { name: /force/ }))
    press('Publish')
    await waitFor(() => expect(asked()).toHaveLength(1))
    expect(asked()[0]).toMatchObject({ force: true, allowConflicts: false })
    fireEvent.click(screen.getByRole('checkbox', { name: /conflict markers/ }))
    press('Publish')
    await waitFor(() => expect(asked()).toHaveLength(2))
    expect(asked()[1]).toMatchObject({ allowConflicts: true })
  })

  it('waits for what the agent has changed last, unless it is to be left out', async () => {
    const at = (ms: number) => timestampFromMs(ms)
    const newestTurn = { messageId: 'msg_1', endTime: at(2_000) }
    const { asked } = open(undefined, false, aTask({ branch: 'feat/x', newestTurn, changes: { version: 1n, asOfTime: at(1_000) } }))
    screen.getByText(/has not arrived yet/)
    fireEvent.submit(screen.getByLabelText('Branch').closest('form')!)
    press('Publish without it')
    await waitFor(() => expect(asked()).toHaveLength(1))
  })

  it('opens a pull request with what was given, and shows its address and how it stands', async () => {
    const { asked, show } = open(() => ({}), true)
    fireEvent.change(screen.getByLabelText('Title of the pull request'), { target: { value: 'Parse it' } })
    fireEvent.click(screen.getByRole('checkbox', { name: /draft/ }))
    press('Publish')
    await waitFor(() => expect(asked()).toHaveLength(1))
    expect(asked()[0]).toMatchObject({ taskId: 'task_1', message: 'Add a parser', title: 'Parse it', body: '', draft: true })
    const pullRequest = {
      number: 7n,
      url: 'https://git.example.org/team/app/pull/7',
      title: 'Parse \u202E it',
      state: PullRequestState.OPEN,
      draft: true,
      review: PullRequestReview.CHANGES_REQUESTED,
      checks: { state: ChecksState.FAILED, passed: 2, failed: 1, failing: ['lint'] },
    }
    const branches = [{ branch: 'feat/x', state: JobBranchState.PUSHED, newCommit: commit('b'), pullRequest }]
    show(aJob({ state: JobState.DONE, branches }))
    const link = screen.getByRole('link', { name: 'Pull request #7' })
    expect(link.getAttribute('href')).toBe('https://git.example.org/team/app/pull/7')
    const said = screen.getByText('draft, 1 of 3 checks failed, changes requested')
    expect(said.parentElement?.title).toBe('Parse ⟦RLO⟧ it; failed: lint')
    branches[0] = { ...branches[0]!, pullRequest: { ...pullRequest, url: 'javascript:alert(1)', state: PullRequestState.MERGED } }
    show(aJob({ state: JobState.DONE, branches }))
    expect(screen.queryByRole('link')).toBeNull()
    expect(screen.getByText('merged')).toBeTruthy()
  })

  it('names another branch, and shows the plan without pushing', async () => {
    const { asked, show } = open()
    fireEvent.change(screen.getByLabelText('Branch'), { target: { value: 'other' } })
    press('Show plan')
    await waitFor(() => expect(asked()).toHaveLength(1))
    expect(asked()[0]).toMatchObject({ toBranch: 'other', planOnly: true })
    const branches = [
      {
        branch: 'other',
        state: JobBranchState.PLANNED,
        newCommit: commit('b'),
        commitCount: 2n,
        filesChanged: 1,
        additions: 3n,
        commits: [{ commit: commit('b'), subject: 'Add \u202E a parser' }],
      },
    ]
    show(aJob({ state: JobState.DONE, branches }))
    const job = screen.getByRole('region', { name: 'Publication' })
    expect(job.textContent).toContain('This would be pushed to other')
    expect(job.textContent).toContain('new branch, 2 commits, 1 file, +3 −0')
    expect(job.textContent).toContain('Add ⟦RLO⟧ a parser')
    expect(job.textContent).toContain('and 1 more')
  })

  it('forces only what the shown plan of this branch names', async () => {
    const { asked, show } = open()
    show(aJob({ state: JobState.DONE, branches: [{ branch: 'feat/x', state: JobBranchState.PLANNED, oldCommit: commit('a') }] }))
    fireEvent.click(screen.getByRole('checkbox', { name: /force/ }))
    press('Publish')
    await waitFor(() => expect(asked()).toHaveLength(1))
    expect(asked()[0]).toMatchObject({ force: true, expectedCommit: commit('a') })
    fireEvent.change(screen.getByLabelText('Branch'), { target: { value: 'other' } })
    press('Publish')
    await waitFor(() => expect(asked()).toHaveLength(2))
    expect(asked()[1]).toMatchObject({ toBranch: 'other', expectedCommit: '' })
  })

  it('shows how far the newest job is, and lets it be cancelled', async () => {
    const { world, show } = open()
    const branches = [{ branch: 'feat/x', state: JobBranchState.PENDING }]
    const old = aJob({ jobId: 'job_0', state: JobState.FAILED, createTime: timestampFromMs(1), branches })
    const foreign = aJob({ jobId: 'job_9', taskId: 'task_9', createTime: timestampFromMs(9_000), branches })
    show(old, aJob({ state: JobState.RUNNING, branches, condition: { message: 'asking the remote' } }), foreign)
    expect(screen.getByRole('status').textContent).toContain('Planning feat/x')
    expect(screen.getByRole('button', { name: 'Show plan' })).toHaveProperty('disabled', true)
    press('Cancel job')
    await waitFor(() => expect(world.fake.made.some((it) => it.method === 'cancelJob')).toBe(true))
    const remoteMessage = 'Create a pull request:\nhttps://git.example/new'
    const note = 'as a single commit, as it was published before'
    const pushed = [{ branch: 'feat/x', state: JobBranchState.PUSHED, newCommit: commit('c'), remoteMessage, note }]
    show(aJob({ state: JobState.DONE, branches: pushed }))
    expect(screen.getByRole('status').textContent).toContain('feat/x is at cccccccccccc at the remote')
    expect(screen.getByText(/https:\/\/git\.example\/new/)).toBeTruthy()
    expect(screen.getByText(note)).toBeTruthy()
  })

  it("shows a refusal in the host's words, inert", () => {
    const { show } = open()
    const said = 'error: GH006: Protected branch\n<img src=x onerror=alert(1)>'
    show(
      aJob({
        state: JobState.FAILED,
        condition: { reason: 'BRANCH_PROTECTED', message: 'the remote refused feat/x', nextAction: 'publish to another branch' },
        branches: [{ branch: 'feat/x', state: JobBranchState.REFUSED, remoteMessage: said }],
      }),
    )
    const job = screen.getByRole('region', { name: 'Publication' })
    expect(within(job).getByText('BRANCH_PROTECTED')).toBeTruthy()
    expect(job.textContent).toContain('Publish to another branch')
    expect(job.textContent).toContain('<img src=x onerror=alert(1)>')
    expect(job.querySelector('img')).toBeNull()
  })

  it('shows what the service refuses at once, at its field or below', async () => {
    const refusals = [
      new FoundryError({
        code: Code.InvalidArgument,
        message: 'no',
        fields: [{ field: 'to_branch', description: 'must not start with -' }],
      }),
      new FoundryError({ code: Code.FailedPrecondition, reason: 'DEFAULT_BRANCH_REFUSED', message: 'main is the default branch' }),
    ]
    open(() => {
      throw refusals.shift()
    })
    press('Publish')
    await screen.findByText('Must not start with -.')
    press('Publish')
    await screen.findByText('DEFAULT_BRANCH_REFUSED')
  })
})

it('a plan shows which commits are lost, and why it would be refused', () => {
  const lost = { commit: commit('c'), subject: 'Review' }
  const refusal = { reason: 'WORK_IN_CONFLICT', message: 'the work is not finished', nextAction: 'finish it' }
  const branch = {
    branch: 'feat/x',
    state: JobBranchState.PLANNED,
    newCommit: commit('b'),
    lostCommits: [lost],
    lostCount: 3n,
    refusals: [refusal],
  }
  open().show(aJob({ state: JobState.DONE, branches: [branch] }))
  const { textContent } = screen.getByRole('region', { name: 'Publication' })
  expect(textContent).toContain('Lost at the remote: 3 commits')
  expect(screen.getByRole('list', { name: 'Lost commits' }).textContent).toBe('cccccccccccc Reviewand 2 more')
  expect(textContent).toContain('This would be refused:')
  expect(textContent).toContain('WORK_IN_CONFLICT')
})

it('a push that has replaced commits says how to get them back', () => {
  const branch = { branch: 'feat/x', state: JobBranchState.PUSHED, newCommit: commit('b'), rewrites: true }
  open().show(aJob({ state: JobState.DONE, branches: [branch] }))
  const { textContent } = screen.getByRole('region', { name: 'Publication' })
  expect(textContent).toContain('foundry task fetch task_1 --replaced job_1')
})

it('a publication and a plan are said in words', () => {
  const publication = create(PublicationSchema, { branch: 'feat/x', commit: commit('a'), commitsSince: 2 })
  expect(publicationText(publication)).toBe('published at aaaaaaaaaaaa on feat/x, 2 commits since')
  expect(publicationText({ ...publication, commitsSince: 0 })).toBe('published at aaaaaaaaaaaa on feat/x')
  const replaced = publicationText({ ...publication, commitsSince: 0, replacedBy: 'task_2' })
  expect(replaced).toBe('published at aaaaaaaaaaaa on feat/x; replaced there since by the work of task_2')
  const branch = {
    oldCommit: commit('a'),
    newCommit: commit('b'),
    rewrites: true,
    commitCount: 1n,
    filesChanged: 1,
    additions: 0n,
    deletions: 1n,
  }
  expect(planText(branch as never)).toBe('replaces aaaaaaaaaaaa, 1 commit, 1 file, +0 −1')
})

it('the work of a turn is outstanding from its end until it is imported, or cannot come', () => {
  const at = (ms: number) => timestampFromMs(ms)
  const of = (endTime: number | undefined, rest: object) =>
    isOutstanding(aTask({ newestTurn: { endTime: endTime === undefined ? undefined : at(endTime) }, ...rest }))
  expect(of(2_000, { changes: { asOfTime: at(1_999) } })).toBe(true)
  expect(of(2_000, {})).toBe(true)
  expect(of(2_000, { changes: { asOfTime: at(2_000) } })).toBe(false)
  expect(of(undefined, { changes: { asOfTime: at(1_000) } })).toBe(false)
  expect(of(2_000, { changes: { notSaved: { attemptTime: at(2_001) } } })).toBe(false)
  expect(of(2_000, { state: TaskState.ARCHIVED })).toBe(false)
})

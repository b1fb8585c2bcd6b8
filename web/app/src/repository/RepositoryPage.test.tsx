import { create } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { topics } from '@foundry/client'
import { FoundryProvider } from '@foundry/client/react'
import { ConditionSchema } from '@foundry/client/gen/foundry/common/v1/common_pb'
import {
  BranchOverviewSchema,
  BranchSyncSource,
  BranchSyncStatus,
  PullRequestSyncSource,
  RepositoryItemSchema,
  RepositorySchema,
  RepositoryState,
  type BranchOverview,
  type Repository,
  type RepositoryItem,
} from '@foundry/client/gen/foundry/repo/v1/repo_pb'
import type { MessageInitShape } from '@bufbuild/protobuf'
import { MantineProvider } from '@mantine/core'
import { act, fireEvent, render, screen, waitFor, within } from '@testing-library/react'
import { expect, test } from 'vitest'
import { FrameContext, type Frame } from '../shell/frame'
import { OrganizationProvider } from '../state/organization'
import { FakeFoundry } from '../test/fakeFoundry'
import { organizationOf, repository as summary, task } from '../test/summaries'
import { RepositoryPage } from './RepositoryPage'
import { stackTree } from './stack'

const nothing = () => {}
const frame: Frame = {
  newTask: nothing,
  addRepository: nothing,
  showShortcuts: nothing,
  showEvents: nothing,
  closeDrawer: nothing,
  canWrite: true,
  canAdminister: true,
}

const minutesAgo = (minutes: number) => timestampFromMs(Date.now() - minutes * 60_000)

function branch(
  name: string,
  parent: string,
  more: Exclude<MessageInitShape<typeof BranchOverviewSchema>, BranchOverview> = {},
): BranchOverview {
  const apart = { ahead: 1, behind: 0 }
  return create(BranchOverviewSchema, { name, parent, fromParent: apart, fromBase: apart, subject: `add ${name}`, ...more })
}

function repository(more: Exclude<MessageInitShape<typeof RepositorySchema>, Repository> = {}): Repository {
  return create(RepositorySchema, {
    repositoryId: 'repo_1',
    organizationId: 'org_1',
    name: 'widgets',
    state: RepositoryState.READY,
    syncTime: minutesAgo(3),
    branchSync: { status: BranchSyncStatus.CURRENT, asOf: minutesAgo(3), source: BranchSyncSource.POLL },
    overview: { completeTime: minutesAgo(3) },
    ...more,
  })
}

function items(shown: Repository, branches: readonly BranchOverview[]): [string, RepositoryItem][] {
  return [
    ['repository/repo_1', create(RepositoryItemSchema, { item: { case: 'repository', value: shown } })],
    ...branches.map((value): [string, RepositoryItem] => [
      `branch/${value.name}`,
      create(RepositoryItemSchema, { item: { case: 'branch', value } }),
    ]),
  ]
}

function open(shown: Repository, branches: readonly BranchOverview[] = [], its = frame, more: { branch?: string } = {}) {
  const fake = new FakeFoundry({ repo: { requestRepositoryRefresh: () => ({}) } })
  fake.show(
    topics.organization('org_1'),
    organizationOf([summary('repo_1', 'widgets')], [task('task_1', Date.now(), { title: 'Mend the fence', ...more })]),
  )
  fake.show(topics.repository('repo_1'), items(shown, branches))
  render(
    <MantineProvider env="test">
      <FoundryProvider client={fake.client}>
        <OrganizationProvider organizationId="org_1">
          <FrameContext.Provider value={its}>
            <RepositoryPage repositoryId="repo_1" />
          </FrameContext.Provider>
        </OrganizationProvider>
      </FoundryProvider>
    </MantineProvider>,
  )
  return fake
}

test('each branch is below its parent, and a parent that is not there hides nothing', () => {
  const all = [branch('z', 'gone'), branch('b', 'a'), branch('c', 'b'), branch('a', 'main'), branch('main', '', { isDefault: true })]
  const tree = stackTree(all).map(({ branch: it, depth }) => `${'-'.repeat(depth)}${it.name}`)
  expect(tree).toEqual(['main', '-a', '--b', '---c', 'z'])
})

test('the tree shows conflicts, what is merged, and the task of a branch as a link', () => {
  const conflicts = { count: 2, files: ['a.txt', 'b\u202e.txt'] }
  open(repository(), [
    branch('main', '', { isDefault: true }),
    branch('x', 'main', { conflicts, taskId: 'task_1' }),
    branch('y', 'x', { merged: true }),
    branch('z', 'x', { unpublished: true }),
  ])
  expect(screen.getByText('2 conflicts')).toBeTruthy()
  expect(screen.getByText('nothing published yet')).toBeTruthy()
  expect(screen.getByText('merged')).toBeTruthy()
  const links = screen.getAllByRole('link', { name: 'Mend the fence' })
  expect(links[0]?.getAttribute('href')).toContain('task_1')
  expect(document.body.textContent).not.toContain('\u202e')
  expect(screen.getByText('4 branches')).toBeTruthy()
})

test('a branch that is behind the one below it says so, unless it is merged', () => {
  const behind = { ahead: 1, behind: 3 }
  open(repository(), [
    branch('main', '', { isDefault: true }),
    branch('x', 'main', { fromParent: behind }),
    branch('y', 'x', { fromParent: behind, merged: true }),
  ])
  expect(screen.getByText('3 behind').textContent).toBe('3 behind main')
  expect(document.body.textContent).not.toContain('behind x')
})

test('a branch that is very far ahead says that not all commits were counted', () => {
  open(repository(), [
    branch('main', '', { isDefault: true }),
    branch('x', 'main', { fromParent: { ahead: 20_000, behind: 3 }, fromBase: { ahead: 20_000, behind: 3 } }),
  ])
  expect(screen.getAllByText(/↑20,000\+ ↓3/).length).toBeGreaterThan(0)
})

test('it shows how new the branches are, and since when and why they are not newer', () => {
  const fake = open(repository())
  const freshness = () => document.querySelector('dl')?.textContent ?? ''
  expect(freshness()).toContain('as of 3 min ago, by polling')
  const condition = create(ConditionSchema, { reason: 'GIT_TIMEOUT', message: 'the remote does not answer', sinceTime: minutesAgo(7) })
  const stale = repository({
    branchSync: { status: BranchSyncStatus.STALE, asOf: minutesAgo(9), source: BranchSyncSource.REQUEST, stale: condition },
  })
  act(() => fake.show(topics.repository('repo_1'), items(stale, [])))
  expect(screen.getByText(/The remote does not answer/)).toBeTruthy()
  expect(screen.getByText('GIT_TIMEOUT')).toBeTruthy()
  expect(screen.getByText(/7 min ago/)).toBeTruthy()
  expect(screen.getByText(/9 min ago/)).toBeTruthy()
})

test('it shows how new the pull requests are, why they are not newer, and how many calls the host answers', () => {
  const stale = { reason: 'FORGE_RATE_LIMITED', message: 'the host answers no calls', nextAction: 'wait', sinceTime: minutesAgo(6) }
  const soon = timestampFromMs(Date.now() + 7_530_000)
  const pullRequestSync = {
    asOf: minutesAgo(4),
    source: PullRequestSyncSource.WEBHOOK,
    openCount: 3,
    truncated: true,
    stale,
    nextRefreshTime: soon,
    apiLimit: 5000,
    apiRemaining: 12,
    apiResetTime: soon,
  }
  const branchSync = { status: BranchSyncStatus.CURRENT, asOf: minutesAgo(3), nextRefreshTime: soon, announceTime: minutesAgo(5) }
  open(repository({ pullRequestSync, branchSync }))
  const freshness = document.querySelector('dl')?.textContent ?? ''
  expect(freshness).toContain('as of 3 min ago; next refresh in 2 h 5 min, or when a webhook announces a change')
  expect(freshness).toContain('3 and more open, as of 4 min ago, by a webhook; next refresh in 2 h 5 min')
  expect(freshness).toContain('12 of 5000; all of them again in 2 h 5 min')
  const why = screen.getByText(/The host answers no calls/)
  expect(why.textContent).toContain('(since 6 min ago) FORGE_RATE_LIMITED')
})

test('it shows what is being read, since when, and how far that is', () => {
  const branchSync = { status: BranchSyncStatus.SYNCING, asOf: minutesAgo(9), runningSince: minutesAgo(2) }
  const reading = { startTime: minutesAgo(1), done: 30, total: 50 }
  const fake = open(repository({ branchSync, pullRequestSync: { asOf: minutesAgo(4), openCount: 500, reading, unreadCount: 420 } }))
  const freshness = () => document.querySelector('dl')?.textContent ?? ''
  expect(freshness()).toContain('as of 9 min ago; being read since 2 min ago')
  expect(freshness()).toContain('500 open, as of 4 min ago; being read since 1 min ago, 30 of 50; checks of 420 not read yet')
  const listing = repository({ pullRequestSync: { reading: { startTime: minutesAgo(1), done: 200 } } })
  act(() => fake.show(topics.repository('repo_1'), items(listing, [])))
  expect(freshness()).toContain('not read yet; being read since 1 min ago, 200 listed')
})

test('it asks for a refresh', async () => {
  const fake = open(repository())
  fireEvent.click(screen.getByRole('button', { name: 'Refresh' }))
  await act(async () => {})
  expect(fake.made.map((call) => call.method)).toEqual(['requestRepositoryRefresh'])
})

test('an empty repository, one whose branches are being compared, and one with very many show that', () => {
  const fake = open(repository())
  expect(screen.getByText('No branches')).toBeTruthy()
  act(() => fake.show(topics.repository('repo_1'), items(repository({ overview: {} }), [])))
  expect(screen.getByRole('status', { name: 'Comparing the branches' })).toBeTruthy()
  const many = Array.from({ length: 450 }, (_, n) => branch(`b${n}`, 'main'))
  const computing = repository({ overview: { computing: true, done: 450, total: 10_000 } })
  act(() => fake.show(topics.repository('repo_1'), items(computing, many)))
  expect(screen.getByText('Comparing branches: 450 of 10000')).toBeTruthy()
  expect(screen.getAllByRole('row')).toHaveLength(201)
  fireEvent.click(screen.getByRole('button', { name: 'Show more' }))
  expect(screen.getAllByRole('row')).toHaveLength(401)
})

test('what is left out is named', () => {
  open(
    repository({
      overview: { completeTime: minutesAgo(1), leftOut: { reason: 'BRANCHES_LEFT_OUT', message: 'left out: 5 older branches' } },
    }),
    [branch('main', '', { isDefault: true })],
  )
  expect(screen.getByText(/5 older branches/)).toBeTruthy()
})

test('a task can be started on a branch, and the open task of one is opened', async () => {
  const started: (string | undefined)[][] = []
  const fake = open(
    repository(),
    [branch('x', 'main'), branch('y', 'main')],
    { ...frame, newTask: (...on) => started.push(on) },
    { branch: 'y' },
  )
  fake.show(topics.jobs('org_1', 'repo_1'), [])
  fireEvent.click(screen.getByRole('button', { name: 'Actions on x' }))
  fireEvent.click(await screen.findByRole('button', { name: 'Start a task on this branch' }))
  expect(started).toEqual([['repo_1', 'x']])
  fireEvent.click(screen.getByRole('button', { name: 'Actions on y' }))
  fireEvent.click(await screen.findByRole('button', { name: 'Open its task' }))
  expect(location.pathname).toBe('/o/org_1/t/task_1')
})

test('actions are offered on branches of the remote, and not on the default branch', async () => {
  const fake = open(repository({ defaultBranch: 'main' }), [
    branch('main', '', { isDefault: true }),
    branch('x', 'main'),
    branch('w', 'x', { workOnly: true, taskId: 'task_1' }),
  ])
  fake.show(topics.jobs('org_1', 'repo_1'), [])
  const names = screen.getAllByRole('button', { name: /^Actions on (?!all branches)/ }).map((it) => it.getAttribute('aria-label'))
  expect(names).toEqual(['Actions on x'])
  const opener = screen.getByRole('button', { name: 'Actions on x' })
  opener.focus()
  fireEvent.click(opener)
  const dialog = await screen.findByRole('dialog', { name: 'Actions on x' })
  expect(screen.getByText(/is never changed/)).toBeTruthy()
  const field = within(dialog).getByLabelText('Action')
  field.focus()
  fireEvent.keyDown(field, { key: 'Escape' })
  await waitFor(() => expect(screen.queryByRole('dialog')).toBeNull())
  await waitFor(() => expect(document.activeElement).toBe(opener))
})

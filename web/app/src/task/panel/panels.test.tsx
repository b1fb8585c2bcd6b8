import { create } from '@bufbuild/protobuf'
import { Code, FoundryError, topics } from '@foundry/client'
import { FoundryProvider } from '@foundry/client/react'
import { ConditionSchema } from '@foundry/client/gen/foundry/common/v1/common_pb'
import { SandboxItemSchema, SandboxState } from '@foundry/client/gen/foundry/provisioner/v1/provisioner_pb'
import { MergedFromSchema, WorkNoticeKind, WorkNoticeSchema } from '@foundry/client/gen/foundry/common/v1/work_pb'
import { ChangesSchema, FileChangeSchema, FileTreeEntrySchema, SessionState } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { MantineProvider } from '@mantine/core'
import { act, fireEvent, render, screen, waitFor } from '@testing-library/react'
import type { ReactNode } from 'react'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { shellItems, type FakeCalls } from '../../test/fakeFoundry'
import { aSession, aTask, FakeTask } from '../test/fakeTask'
import Changes from './changes/Changes'
import { appliesWhere } from './usePatchDownload'
import { beyond, stateWord, subjectName } from './Explain'
import Files from './files/Files'
import Processes from './Processes'

beforeEach(() => {
  vi.spyOn(HTMLElement.prototype, 'offsetHeight', 'get').mockReturnValue(600)
  vi.spyOn(HTMLElement.prototype, 'offsetWidth', 'get').mockReturnValue(800)
})

function show(world: FakeTask, node: ReactNode) {
  const page = (inner: ReactNode) => (
    <MantineProvider env="test">
      <FoundryProvider client={world.client}>{inner}</FoundryProvider>
    </MantineProvider>
  )
  const { rerender } = render(page(node))
  return (next: ReactNode) => rerender(page(next))
}

const withWork = (version: bigint) => aTask({ changes: { version, filesChanged: 1 } })
const made = (world: FakeTask, method: string) => world.fake.made.filter((call) => call.method === method)
const file = (path: string, rest: object = {}) => create(FileChangeSchema, { path, kind: 'modified', patchSize: 99_999n, ...rest })
const patch = (lines: string) => ({
  patch: new TextEncoder().encode(`diff --git a/a.rs b/a.rs\n--- a/a.rs\n+++ b/a.rs\n@@ -1,1 +1,1 @@\n${lines}\n`),
})

describe('the changes', () => {
  it('are read again when the work changes, and only then', async () => {
    const world = new FakeTask({ task: { listFileChanges: () => ({ files: [file('a.rs')], nextPageToken: '' }) } })
    const again = show(world, <Changes task={withWork(1n)} />)
    await screen.findByText('a.rs')
    again(<Changes task={withWork(1n)} />)
    expect(made(world, 'listFileChanges')).toHaveLength(1)
    again(<Changes task={withWork(2n)} />)
    await waitFor(() => expect(made(world, 'listFileChanges')).toHaveLength(2))
  })

  it('read the diff of a file when it is opened, and show it inert', async () => {
    const lines = '-old </script><img src=x onerror=alert(1)>\n+new \u202Egnp'
    const world = new FakeTask({
      task: { listFileChanges: () => ({ files: [file('a.rs')], nextPageToken: '' }), getFileDiff: () => patch(lines) },
    })
    show(world, <Changes task={withWork(1n)} />)
    const row = await screen.findByRole('button', { name: /a\.rs/, expanded: false })
    expect(made(world, 'getFileDiff')).toEqual([])
    fireEvent.click(row)
    const diff = await screen.findByRole('region', { name: 'Diff of a.rs' })
    expect(diff.textContent).toContain('</script><img src=x onerror=alert(1)>')
    expect(diff.textContent).toContain('new ⟦RLO⟧gnp')
    expect(diff.querySelector('img, script')).toBeNull()
  })

  // Four hundred rows take this long to draw without a browser, beside all other tests.
  it('keep what is open when more files are read', async () => {
    const page = (from: number) =>
      Array.from({ length: 200 }, (_, at) => file(`f${String(from + at).padStart(3, '0')}.rs`, { patchSize: 10n }))
    const listFileChanges = ({ pageToken }: { pageToken: string }) =>
      pageToken === '' ? { files: page(0), nextPageToken: 'next' } : { files: page(200), nextPageToken: '' }
    const world = new FakeTask({ task: { listFileChanges, getFileDiff: () => patch('-old\n+new') } })
    show(world, <Changes task={withWork(1n)} />)
    fireEvent.click(await screen.findByRole('button', { name: /f000\.rs/, expanded: false }))
    await screen.findByRole('region', { name: 'Diff of f000.rs' })
    fireEvent.click(screen.getByRole('button', { name: 'Show more files' }))
    await screen.findByText('f399.rs')
    expect(screen.getByRole('region', { name: 'Diff of f000.rs' })).toBeTruthy()
  }, 60_000)

  it('say why a diff is not there', async () => {
    const files = [file('big.json', { tooLarge: true, patchSize: 3_000_000n }), file('logo.png', { binary: true })]
    const world = new FakeTask({ task: { listFileChanges: () => ({ files, nextPageToken: '' }) } })
    show(world, <Changes task={withWork(1n)} />)
    fireEvent.click(await screen.findByRole('button', { name: /big\.json/, expanded: false }))
    fireEvent.click(screen.getByRole('button', { name: /logo\.png/, expanded: false }))
    expect(screen.getByText(/too large to store \(2.9 MiB/)).toBeTruthy()
    expect(screen.getByText(/Binary file/)).toBeTruthy()
    expect(made(world, 'getFileDiff')).toEqual([])
  })

  it('show what the work left out, what it merged and why it is not saved, inert', async () => {
    const world = new FakeTask({ task: { listFileChanges: () => ({ files: [file('a.rs')], nextPageToken: '' }) } })
    const notices = [
      create(WorkNoticeSchema, { kind: WorkNoticeKind.OTHER_BRANCH, branch: 'other\u202E', count: 1n }),
      create(WorkNoticeSchema, { kind: 99 as WorkNoticeKind, path: 'x' }),
    ]
    const mergedFrom = [create(MergedFromSchema, { branch: 'develop', filesChanged: 30 })]
    const notSaved = create(ConditionSchema, { reason: 'WORK_BUNDLE_FAILED', message: 'git failed' })
    const changes = create(ChangesSchema, { version: 1n, filesChanged: 1, notices, mergedFrom, notSaved })
    show(world, <Changes task={aTask({ changes })} />)
    const list = await screen.findByRole('list', { name: 'Notices about the work' })
    expect(list.textContent).toContain('1 commit on branch other⟦RLO⟧ is not part of the work')
    expect(list.textContent).toContain('30 files merged from develop')
    expect(list.textContent).toContain('applies to the base only after that merge')
    expect(appliesWhere(mergedFrom)).toContain('only after develop was merged')
    expect(appliesWhere([])).toBe('Apply it with git apply --index.')
    expect(list.textContent).toContain('A notice about x')
    expect(screen.getByText('WORK_BUNDLE_FAILED')).toBeTruthy()
  })

  it('have the agent take in what it left out, with one click', async () => {
    const world = new FakeTask({ task: { listFileChanges: () => ({ files: [], nextPageToken: '' }), sendMessage: () => ({}) } })
    world.fake.show(topics.appShell(), shellItems([{ id: 'org_1', name: 'acme', role: 2 }]))
    const notices = [
      create(WorkNoticeSchema, { kind: WorkNoticeKind.OTHER_BRANCH, branch: "it's", count: 2n }),
      create(WorkNoticeSchema, { kind: WorkNoticeKind.TOO_LARGE, path: 'x', count: 9n }),
    ]
    const task = aTask({ changes: create(ChangesSchema, { version: 1n, notices }) })
    const sessions = [aSession({ sessionId: 'sess_1', state: SessionState.CLOSED }), aSession({ sessionId: 'sess_2' })]
    show(world, <Changes task={task} sessions={sessions} />)
    const ask = await screen.findAllByRole('button', { name: 'Ask the agent' })
    expect(ask).toHaveLength(1)
    fireEvent.click(ask[0] as HTMLElement)
    const text = "Merge the branch 'it'\\''s' into the branch that you work on, and resolve any conflicts."
    await waitFor(() => expect(made(world, 'sendMessage')[0]?.request).toMatchObject({ sessionId: 'sess_2', text }))
  })

  it('list what was merged only when that is wanted', async () => {
    const listFileChanges = ({ whole }: { whole: boolean }) => ({
      files: whole ? [file('mine.rs'), file('theirs.rs')] : [file('mine.rs')],
      nextPageToken: '',
    })
    const world = new FakeTask({ task: { listFileChanges, getFileDiff: () => patch('-old\n+new') } })
    const mergedFrom = [create(MergedFromSchema, { branch: 'develop', filesChanged: 1 })]
    show(world, <Changes task={aTask({ changes: create(ChangesSchema, { version: 1n, filesChanged: 1, mergedFrom }) })} />)
    await screen.findByText('mine.rs')
    expect(screen.queryByText('theirs.rs')).toBeNull()
    fireEvent.click(screen.getByRole('checkbox', { name: /merged from other branches/ }))
    fireEvent.click(await screen.findByRole('button', { name: /theirs\.rs/, expanded: false }))
    await waitFor(() => expect(made(world, 'getFileDiff').at(-1)?.request).toMatchObject({ path: 'theirs.rs', whole: true }))
  })

  it('draw a long diff step by step', async () => {
    const lines = Array.from({ length: 2000 }, (_, at) => `+line ${at}`).join('\n')
    const world = new FakeTask({
      task: { listFileChanges: () => ({ files: [file('a.rs')], nextPageToken: '' }), getFileDiff: () => patch(lines) },
    })
    show(world, <Changes task={withWork(1n)} />)
    fireEvent.click(await screen.findByRole('button', { name: /a\.rs/, expanded: false }))
    await screen.findByRole('button', { name: 'Show more (1200 lines left)' })
    expect(screen.queryByText('line 900')).toBeNull()
  })
})

describe('the files', () => {
  const entry = (path: string, kind = 'file') => create(FileTreeEntrySchema, { path, kind, size: 4n })
  const trees: Record<string, ReturnType<typeof entry>[]> = { '': [entry('src', 'directory'), entry('a.txt')], src: [entry('src/b.rs')] }
  const calls: FakeCalls['task'] = {
    listFileTree: (request: { path: string }) => ({ entries: trees[request.path] ?? [], nextPageToken: '' }),
    getFile: () => ({ content: new TextEncoder().encode('one\ntwo\n') }),
  }

  it('are walked by the keys of a tree, each directory read when it is opened', async () => {
    const world = new FakeTask({ task: calls })
    show(world, <Files task={withWork(1n)} />)
    const tree = await screen.findByRole('tree', { name: 'Files' })
    await screen.findByRole('treeitem', { name: /src/ })
    expect(made(world, 'listFileTree')).toHaveLength(1)
    fireEvent.keyDown(tree, { key: 'ArrowRight' })
    await screen.findByRole('treeitem', { name: /b\.rs/ })
    expect(made(world, 'listFileTree')).toHaveLength(2)
    fireEvent.keyDown(tree, { key: 'ArrowRight' })
    fireEvent.keyDown(tree, { key: 'Enter' })
    const content = await screen.findByRole('region', { name: 'Content' })
    expect(content.textContent).toContain('one\ntwo')
    fireEvent.keyDown(tree, { key: 'ArrowLeft' })
    fireEvent.keyDown(tree, { key: 'ArrowLeft' })
    await waitFor(() => expect(screen.queryByRole('treeitem', { name: /b\.rs/ })).toBeNull())
  })

  it('are read again when the work changes', async () => {
    const world = new FakeTask({ task: calls })
    const again = show(world, <Files task={withWork(1n)} />)
    await screen.findByRole('treeitem', { name: /src/ })
    again(<Files task={withWork(2n)} />)
    await waitFor(() => expect(made(world, 'listFileTree')).toHaveLength(2))
  })
})

describe('the processes', () => {
  const sandbox = (state: SandboxState) =>
    [
      ['sandbox/sbx_1', create(SandboxItemSchema, { item: { case: 'sandbox', value: { sandboxId: 'sbx_1', provider: 'local', state } } })],
    ] as const
  const processes = [{ pid: 7, command: 'cargo test \u0007', state: 'R', cpuMillis: 1n, rssBytes: 2n }]

  it('are read once on opening, and again by the button alone', async () => {
    const world = new FakeTask({ provisioner: { listProcesses: () => ({ processes, truncated: false }) } })
    world.fake.show(topics.sandbox('sbx_1'), sandbox(SandboxState.READY))
    show(world, <Processes sandboxId="sbx_1" />)
    await screen.findByText('cargo test ␇')
    act(() => world.fake.show(topics.sandbox('sbx_1'), sandbox(SandboxState.READY)))
    expect(made(world, 'listProcesses')).toHaveLength(1)
    fireEvent.click(screen.getByRole('button', { name: 'Refresh' }))
    await waitFor(() => expect(made(world, 'listProcesses')).toHaveLength(2))
  })

  it('are not asked of a sandbox that is gone', async () => {
    const world = new FakeTask({})
    world.fake.show(topics.sandbox('sbx_1'), sandbox(SandboxState.DESTROYED))
    show(world, <Processes sandboxId="sbx_1" />)
    await screen.findByText('The sandbox is destroyed.')
    expect(made(world, 'listProcesses')).toEqual([])
  })

  it('stand below the limits of their sandbox, and those that it has reached', async () => {
    const reachedLimits = [
      {
        reason: 'SANDBOX_MEMORY_LIMIT',
        message: 'the sandbox has reached its limit of 512.0 MiB of memory',
        nextAction: 'let it use less',
      },
    ]
    const value = { sandboxId: 'sbx_1', state: SandboxState.READY, limits: '512.0 MiB of memory; measured', reachedLimits }
    const world = new FakeTask({ provisioner: { listProcesses: () => ({ processes, truncated: false }) } })
    world.fake.show(topics.sandbox('sbx_1'), [['sandbox/sbx_1', create(SandboxItemSchema, { item: { case: 'sandbox', value } })]])
    show(world, <Processes sandboxId="sbx_1" />)
    await screen.findByText('512.0 MiB of memory; measured')
    expect(screen.getByText('SANDBOX_MEMORY_LIMIT')).toBeTruthy()
    expect(screen.getByText('Let it use less.')).toBeTruthy()
  })

  it('say why they cannot be read', async () => {
    const gone = new FoundryError({
      code: Code.FailedPrecondition,
      reason: 'SANDBOX_GONE',
      message: 'the sandbox is gone',
      nextAction: 'send a message',
    })
    const world = new FakeTask({
      provisioner: {
        listProcesses: () => {
          throw gone
        },
      },
    })
    world.fake.show(topics.sandbox('sbx_1'), sandbox(SandboxState.READY))
    show(world, <Processes sandboxId="sbx_1" />)
    expect((await screen.findByRole('alert')).textContent).toContain('SANDBOX_GONE')
  })
})

it('what a finding is about is said without ids', () => {
  const said = [
    'task task_01a2121455c374458b867605afa11c30',
    'session ses_01a2121455c374458b867605afa11c30 (main)',
    'stage agent_installing',
    'repository orchard',
  ]
  expect(said.map(subjectName)).toEqual(['Task', 'Session main', 'Stage agent installing', 'Repository orchard'])
})

it('what a finding says beyond its condition stays', () => {
  const condition = create(ConditionSchema, {
    waitingOn: 'a person',
    message: '3 messages wait',
    reason: 'QUEUE_HELD',
    nextAction: 'resume the queue',
  })
  const text = 'It is idle and waits on a person: 3 messages wait (QUEUE_HELD). What can be done: resume the queue.'
  expect([beyond(text, condition), beyond(`${text} Events of the agent are still being taken in.`, condition)]).toEqual([
    '',
    'Events of the agent are still being taken in.',
  ])
  const stage = create(ConditionSchema, { waitingOn: 'agent_installing', nextAction: 'none needed' })
  expect(beyond('It is waiting for the sandbox and waits on agent installing. 2 messages wait.', stage)).toBe('2 messages wait.')
})

it('an explanation names states as the rest of the page does', () => {
  expect(['error', 'pending_provision', 'idle'].map(stateWord)).toEqual(['failed', 'waiting for sandbox', 'idle'])
})

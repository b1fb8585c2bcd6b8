import { create } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { Code, FoundryError, topics } from '@foundry/client'
import { FoundryProvider } from '@foundry/client/react'
import { SandboxItemSchema } from '@foundry/client/gen/foundry/provisioner/v1/provisioner_pb'
import { OrganizationItemSchema, UserStateItemSchema } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { createRoot } from 'react-dom/client'
import { TaskPage } from '../src/task'
import { aMessage, aSession, aTask, entry, FakeTask } from '../src/task/test/fakeTask'
import { shellItems } from '../src/test/fakeFoundry'
import { ThemeProvider } from '../src/theme'
import { Announcer, Toaster } from '../src/ui'
import { content, events, failed, files, findings, patch, processes, stages, tree, waiting } from './taskData'
import { conversation, hostile, long, options } from './taskTranscript'

// Scenes to look at without a mesh: /dev/task.html?scene=talk&scheme=dark&panel=files
const query = new URLSearchParams(location.search)
const scene = query.get('scene') ?? 'talk'
const scheme = query.get('scheme')
if (scheme !== null) localStorage.setItem('foundry-color-scheme', scheme)
if (query.get('diff') !== null)
  localStorage.setItem('foundry-diff', JSON.stringify({ view: query.get('diff'), wrap: query.get('wrap') !== 'no' }))

const gone = new FoundryError({
  code: Code.FailedPrecondition,
  reason: 'SANDBOX_GONE',
  message: 'the sandbox was destroyed',
  nextAction: 'send a message to have a new one made',
})
const whole = scene === 'hostile' ? hostile() : scene === 'long' || scene === 'stream' ? long(10_000) : conversation()

const world = new FakeTask({
  task: {
    updateDraft: () => ({ rev: 9n }),
    markRead: () => ({}),
    sendMessage: (request: { text: string }) => {
      const message = aMessage(`msg_${Date.now()}`, request.text)
      setTimeout(() => world.showSession(session, [], [message]), 400)
      return { message }
    },
    removeQueuedMessage: (request: { messageId: string }) => {
      world.showSession(session, [], [request.messageId])
      return {}
    },
    getQueuedMessage: () => ({ text: 'Then also write the change log.' }),
    listTranscript: (request: { fromOffset: bigint; pageSize: number }) => ({
      entries: whole.slice(Number(request.fromOffset) - 1, Number(request.fromOffset) - 1 + request.pageSize),
    }),
    listFileChanges: () => ({ files, changes: task.changes, nextPageToken: '' }),
    getFileDiff: (request: { path: string }) => ({ patch: patch(request.path) }),
    listFileTree: (request: { path: string }) => ({ entries: tree(request.path), nextPageToken: request.path === 'src' ? 'more' : '' }),
    getFile: () => ({ content }),
    explainTask: () => ({ summary: 'The task waits for its agent to be installed; the next attempt is in 12 s', findings }),
    listAuditEvents: () => ({ events, nextPageToken: '' }),
    getTaskPrompt: () => ({
      prompt: 'Greet people by name instead of saying just “Hello”.\n\nKeep the old behaviour when no name is given.\n'.repeat(20),
    }),
    respondToPermission: () => {
      throw gone
    },
  } as never,
  provisioner: {
    listProcesses: () => {
      if (scene === 'gone') throw gone
      return { processes, readTime: timestampFromMs(Date.now()), truncated: true }
    },
    listAgents: () => ({
      agents: [
        { name: 'demo', displayName: 'Demo agent', available: true },
        { name: 'claude', displayName: 'Claude Code', available: false, missingCredentials: ['ANTHROPIC_API_KEY'] },
      ],
    }),
  } as never,
})

const changes = { version: 4n, filesChanged: 7, additions: 90_432n, deletions: 33n, importTime: timestampFromMs(Date.now() - 50_000) }
const scenes: Record<string, Parameters<typeof aTask>[0]> = {
  queued: { state: 1, stages: [] },
  provisioning: { state: 4, stages: stages(2, 2, 'downloading demo 1.2.0') },
  waiting: { state: 4, stages: stages(2, 3, 'the package index did not answer', 'AGENT_INSTALL_FAILED'), condition: waiting },
  failed: { state: 8, stages: stages(1, 5, 'the repository asks for credentials', 'GIT_AUTH_REQUIRED'), condition: failed },
  killed: { state: 12, stages: stages(7), sandboxId: '' },
}
const usual = { state: 7, stages: stages(7), sandboxId: 'sbx_1', changes }
const task = aTask({
  promptPreview: 'Greet people by name instead of saying just “Hello”. Keep the old behaviour when no name is given.',
  promptSize: 2400n,
  ...(scene in scenes ? scenes[scene] : usual),
  ...(scene === 'running' || scene === 'permission' || scene === 'stream' ? { state: 6 } : {}),
  ...(scene === 'hostile'
    ? { title: '\u202Eevil </script><img src=x onerror=alert(1)> ' + 'long '.repeat(18), branch: 'foundry/$(id)-\u202Egnp' }
    : {}),
})
const pendingPermission =
  scene === 'permission' || scene === 'hostile'
    ? { permissionId: 'perm-9', title: 'rm -rf target && cargo build --release', options }
    : undefined
const fresh = scene in scenes && scene !== 'killed'
const session = aSession({
  state: fresh ? (scene === 'failed' ? 7 : 1) : scene === 'running' || scene === 'stream' || pendingPermission !== undefined ? 4 : 5,
  lastOffset: BigInt(fresh ? 0 : whole.length),
  pendingPermission,
  queueHeld: scene === 'talk',
})
const second = aSession({ sessionId: 'ses_2', name: 'Review', state: 4, lastOffset: 9n, createTime: timestampFromMs(2000) })
const third = aSession({ sessionId: 'ses_3', name: 'A session that failed at its start', state: 7, createTime: timestampFromMs(3000) })
const closed = aSession({ sessionId: 'ses_4', name: 'First try', state: 8, createTime: timestampFromMs(500) })

if (scene !== 'loading') {
  world.showTask(task, fresh ? [session] : [session, second, third, closed], scene === 'stale' ? 'stale' : 'live')
  const queue =
    scene === 'long' || scene === 'stream' || scene === 'hostile'
      ? []
      : [aMessage('msg_8', 'Then also write the change log.'), aMessage('msg_9', 'x'.repeat(5000))]
  world.showSession(session, fresh ? [] : whole, scene === 'killed' ? [] : queue)
}
if (scene === 'error') {
  world.fake.show(
    topics.task('task_1'),
    [],
    'ended',
    new FoundryError({
      code: Code.NotFound,
      reason: 'NOT_FOUND',
      message: 'there is no such task',
      nextAction: 'look for it in the list of tasks',
    }),
  )
}
world.fake.show(topics.appShell(), shellItems([{ id: 'org_1', name: 'acme', role: Number(query.get('role') ?? 4) }]))
world.fake.show(topics.organization('org_1'), [
  [
    'repository/repo_1',
    create(OrganizationItemSchema, { item: { case: 'repository', value: { repositoryId: 'repo_1', name: 'greeter' } } }),
  ],
])
world.fake.show(
  topics.userState('org_1'),
  scene === 'draft'
    ? [
        [
          'draft/ses_1',
          create(UserStateItemSchema, { item: { case: 'draft', value: { subject: 'ses_1', text: 'A draft from\nanother tab' } } }),
        ],
      ]
    : [],
)
world.fake.show(topics.sandbox('sbx_1'), [
  [
    'sandbox/sbx_1',
    create(SandboxItemSchema, {
      item: {
        case: 'sandbox',
        value: { sandboxId: 'sbx_1', provider: 'local', isolation: 'bubblewrap, own user, no network', runtimeInstance: 1n, state: 6 },
      },
    }),
  ],
])

if (scene === 'stream') stream()

/** Streams text at the pace of a fast agent, and reports the longest frame. */
function stream(): void {
  let offset = whole.length
  let part = 0
  let longest = 0
  let last = performance.now()
  const frame = () => {
    longest = Math.max(longest, performance.now() - last)
    last = performance.now()
    document.title = `longest frame ${Math.round(longest)} ms, ${part} parts`
    requestAnimationFrame(frame)
  }
  setTimeout(() => {
    longest = 0
    last = performance.now()
    requestAnimationFrame(frame)
    const timer = setInterval(() => {
      offset++
      world.showSession(session, [
        entry(
          offset,
          { case: 'agentMessage', value: { text: `word ${part} and **bold ${part}** ${part % 12 === 11 ? '\n\n' : ''}` } },
          { blockId: 'live', partNumber: part++, messageId: 'msg_live' },
        ),
      ])
      if (part > 400) clearInterval(timer)
    }, 25)
  }, 1500)
}

const root = document.getElementById('root')
if (root === null) throw new Error('there is no #root')
createRoot(root).render(
  <ThemeProvider>
    <FoundryProvider client={world.client}>
      <div style={{ height: '100dvh' }}>
        <TaskPage organizationId="org_1" taskId="task_1" />
      </div>
      <Toaster />
      <Announcer />
    </FoundryProvider>
  </ThemeProvider>,
)

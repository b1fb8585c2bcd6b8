import { Code, FoundryError, topics, type LogEvent } from '@foundry/client'
import { RepositoryState } from '@foundry/client/gen/foundry/repo/v1/repo_pb'
import { createRoot } from 'react-dom/client'
import { App } from '../src/app/App'
import { FakeFoundry, shellItems } from '../src/test/fakeFoundry'
import { shareStyleNonce } from '../src/theme'
import { toastDone, toastError } from '../src/ui'
import { agents, branches, modelProviders, organizationItems, profiles, providers, repositoryItems, userItems } from './shellData'

// Scenes to look at without a mesh: /dev/shell.html?scene=tasks&scheme=dark
const query = new URLSearchParams(location.search)
const scene = query.get('scene') ?? 'tasks'
const scheme = query.get('scheme')
if (scheme !== null) localStorage.setItem('foundry-color-scheme', scheme)
localStorage.setItem('foundry-list-order', query.get('order') ?? 'repository')

const unavailable = new FoundryError({
  code: Code.Unavailable,
  reason: 'SERVICE_UNREACHABLE',
  message: 'the task service did not answer',
  nextAction: 'wait a moment and try again',
})
const refused = new FoundryError({
  code: Code.InvalidArgument,
  reason: 'BRANCH_NOT_FOUND',
  message: 'the branch “mian” is not in the mirror',
  nextAction: 'choose a branch from the list, or refresh the repository',
})

const fake = new FakeFoundry({
  auth: { selectOrganization: () => ({}) },
  repo: {
    listBranches: () => {
      if (scene === 'repository-error') throw unavailable
      return { branches: branches(42), nextPageToken: '' }
    },
    requestRepositoryRefresh: () => ({}),
  },
  provisioner: { listAgents: () => ({ agents }), listProviders: () => ({ providers }) },
  profile: {
    listModelProviders: () => {
      if (scene === 'models-error') throw unavailable
      return { modelProviders: scene === 'models-empty' ? [] : modelProviders, nextPageToken: '' }
    },
    listAgentProfiles: () => ({ profiles: scene.startsWith('models-') ? [] : profiles, nextPageToken: '' }),
    testModelProvider: () => ({
      result: 5,
      message: 'the credential is missing or was rejected',
      nextAction: 'set a valid key',
      model: '',
      durationMillis: 210n,
    }),
  },
  task: {
    updateDraft: () => ({ rev: 9n }),
    createTask: () => {
      throw refused
    },
  },
})

const paths: Record<string, string> = {
  'sign-in': '/sign-in',
  'sign-in-error': '/sign-in#secret=x&login=grace',
  'sign-in-ended': '/sign-in',
  repository: '/o/org_1/r/repo_1',
  'repository-error': '/o/org_1/r/repo_1',
  'repository-loading': '/o/org_1/r/repo_1',
  'not-found': '/nowhere',
  foreign: '/o/org_9',
  'new-task': '/o/org_1/new',
  models: '/o/org_1/models',
  'models-empty': '/o/org_1/models',
  'models-error': '/o/org_1/models',
}

const organizations = [
  { id: 'org_1', name: 'acme', role: 4 },
  { id: 'org_2', name: 'grace', role: 4 },
  { id: 'org_3', name: 'open-source-friends', role: 1 },
]
const count = scene === 'many' ? 1000 : 14
if (scene !== 'loading' && scene !== 'error') {
  fake.show(topics.appShell(), shellItems(organizations))
  fake.show(topics.organization('org_1'), scene === 'empty' ? [] : organizationItems(count), scene === 'stale' ? 'stale' : 'live')
  fake.show(topics.userState('org_1'), userItems(count))
  fake.show(topics.organization('org_9'), [], 'ended', unavailable)
  if (scene !== 'repository-loading') {
    fake.show(topics.repository('repo_1'), repositoryItems(scene === 'repository-error' ? RepositoryState.ERROR : RepositoryState.READY))
  }
}
if (scene === 'error') {
  fake.show(topics.appShell(), shellItems(organizations))
  fake.show(topics.organization('org_1'), [], 'ended', unavailable)
}
const minuteAgo = Date.now() - 60_000
if (scene === 'reconnecting' || scene === 'stale') {
  fake.connection.set({ phase: 'reconnecting', since: minuteAgo, attempt: 4, retryAt: Date.now() + 8000 })
}
if (scene === 'offline') fake.connection.set({ phase: 'offline', since: minuteAgo, attempt: 0 })
if (scene.startsWith('sign-in')) fake.connection.set({ phase: 'signed-out', since: minuteAgo, attempt: 0 })
if (scene === 'sign-in-error') {
  fake.signInError = new FoundryError({
    code: Code.Unauthenticated,
    reason: 'SECRET_WRONG',
    message: 'the secret is not that of this mesh',
    nextAction: 'run `foundry login --web` where the mesh runs',
  })
}
const events: LogEvent[] = [
  { at: minuteAgo, what: 'opened', detail: 'The stream is open.' },
  {
    at: minuteAgo + 900,
    topic: '/foundry.task.v1.TaskService/WatchOrganization a',
    what: 'snapshot',
    detail: 'Loaded 17 entities: nothing was known.',
  },
  { at: minuteAgo + 30_000, what: 'reconnect', detail: 'The stream broke: UNAVAILABLE. Next attempt in 0.4 s.' },
  { at: minuteAgo + 30_400, topic: '/foundry.auth.v1.AuthService/WatchAppShell b', what: 'resumed', detail: 'Went on after revision 41.' },
]
fake.log.set(events)

const state = scene === 'sign-in-ended' ? { returnTo: '/o/org_1', ended: true } : null
history.replaceState(state, '', query.get('path') ?? paths[scene] ?? '/o/org_1')
shareStyleNonce()
const root = document.getElementById('root')
if (root !== null) createRoot(root).render(<App client={fake.client} />)
if (scene === 'toasts') {
  toastError('The task was not archived', unavailable, { label: 'Try again', run: () => {} })
  toastDone('The repository is being deleted', 'foundry')
}

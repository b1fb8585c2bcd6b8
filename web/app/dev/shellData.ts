import { create } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import {
  AgentProfileSchema,
  ModelProviderKind,
  ModelProviderSchema,
  ModelProviderSource,
} from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { AgentSchema, ProviderSchema } from '@foundry/client/gen/foundry/provisioner/v1/provisioner_pb'
import { RepositoryItemSchema, RepositoryState, type RepositoryItem } from '@foundry/client/gen/foundry/repo/v1/repo_pb'
import {
  OrganizationItemSchema,
  SessionState,
  TaskState,
  UserStateItemSchema,
  type OrganizationItem,
  type UserStateItem,
} from '@foundry/client/gen/foundry/task/v1/task_pb'

const titles = [
  'Fix the flaky login test',
  'Upgrade the HTTP client and drop the retry shim',
  'Explain slow queries on the overview page, and propose an index that does not slow the writes down',
  'Add dark mode to the settings page',
  'Rename “workspace” to “project” everywhere',
  'إصلاح محاذاة النص من اليمين إلى اليسار',
  'Reproduce the crash of issue 412',
  'Document the release procedure',
  'Split the god module of the importer',
]
const states = [
  TaskState.RUNNING,
  TaskState.IDLE,
  TaskState.RUNNING,
  TaskState.CREATING_SANDBOX,
  TaskState.ERROR,
  TaskState.IDLE,
  TaskState.QUEUED,
  TaskState.IDLE,
  TaskState.KILLING,
]
export const repositories = [
  { id: 'repo_1', name: 'foundry', state: 'ready' },
  { id: 'repo_2', name: 'billing-service', state: 'syncing' },
  { id: 'repo_3', name: 'a-repository-with-quite-a-long-name-that-does-not-fit', state: 'error' },
]

/** The summary of an organization with this many tasks. */
export function organizationItems(tasks: number, now = Date.now()): [string, OrganizationItem][] {
  const items: [string, OrganizationItem][] = repositories.map(({ id, name, state }) => [
    `repository/${id}`,
    create(OrganizationItemSchema, {
      item: {
        case: 'repository',
        value: {
          repositoryId: id,
          name,
          state,
          url: `https://git.example/acme/${name}.git`,
          defaultBranch: 'main',
          reason: state === 'error' ? 'GIT_REMOTE_UNREACHABLE' : '',
        },
      },
    }),
  ])
  for (let index = 0; index < tasks; index += 1) {
    const state = states[index % states.length] ?? TaskState.IDLE
    const quiet = state === TaskState.QUEUED || state === TaskState.CREATING_SANDBOX
    items.push([
      `task/task_${index}`,
      create(OrganizationItemSchema, {
        item: {
          case: 'task',
          value: {
            taskId: `task_${index}`,
            repositoryId: repositories[index % 4 === 3 ? 1 : 0]?.id,
            title: titles[index % titles.length],
            branch: state === TaskState.QUEUED ? '' : `foundry/${(titles[index % 5] ?? '').toLowerCase().replace(/[^a-z]+/g, '-')}`,
            state,
            additions: BigInt(quiet ? 0 : (index * 137) % 900),
            deletions: BigInt(quiet ? 0 : (index * 31) % 120),
            filesChanged: quiet ? 0 : 3,
            sessions: [
              {
                sessionId: `ses_${index}`,
                state: SessionState.RUNNING,
                lastOffset: quiet ? 0n : 10n,
                waitsForPermission: index === 2,
              },
            ],
            createTime: timestampFromMs(now - index * 2_400_000),
            updateTime: timestampFromMs(now - index * 1_300_000),
          },
        },
      }),
    ])
  }
  return items
}

/** Read marks that leave every third task unread. */
export function userItems(tasks: number): [string, UserStateItem][] {
  return Array.from({ length: tasks }, (_, index) => [
    `read/ses_${index}`,
    create(UserStateItemSchema, {
      item: { case: 'readMark', value: { sessionId: `ses_${index}`, taskId: `task_${index}`, offset: index % 3 === 0 ? 4n : 10n } },
    }),
  ])
}

/** A repository as its page shows it. */
export function repositoryItems(state: RepositoryState, now = Date.now()): [string, RepositoryItem][] {
  const failed = state === RepositoryState.ERROR
  return [
    [
      'repository/repo_1',
      create(RepositoryItemSchema, {
        item: {
          case: 'repository',
          value: {
            repositoryId: 'repo_1',
            organizationId: 'org_1',
            name: 'foundry',
            url: 'https://git.example/acme/foundry.git',
            state,
            defaultBranch: 'main',
            branchCount: 42,
            syncTime: timestampFromMs(now - 240_000),
            condition: failed
              ? {
                  reason: 'GIT_REMOTE_UNREACHABLE',
                  message: 'the remote did not answer within 30 s',
                  nextAction: 'check the address and the network of the mesh, then refresh',
                  attempt: 3,
                  maxAttempts: 8,
                  nextAttemptTime: timestampFromMs(now + 52_000),
                  retryable: true,
                }
              : {},
          },
        },
      }),
    ],
  ]
}

export const agents = [
  create(AgentSchema, { name: 'demo', displayName: 'Demo agent', available: true }),
  create(AgentSchema, { name: 'claude', displayName: 'Claude Code', available: false, missingCredentials: ['ANTHROPIC_API_KEY'] }),
]
export const providers = [
  create(ProviderSchema, { name: 'local', available: true, isolation: 'A directory of its own, in a bubblewrap sandbox' }),
]

/** Branches of the mirror. */
export function branches(count: number, now = Date.now()) {
  return Array.from({ length: count }, (_, index) => ({
    name: index === 0 ? 'main' : index === 1 ? 'foundry/fix-the-flaky-login-test' : `feature/number-${index}`,
    commit: (0x9e3779b97f4a7c15n * BigInt(index + 7)).toString(16).padStart(40, '4').slice(0, 40),
    subject: titles[index % titles.length] ?? '',
    commitTime: timestampFromMs(now - index * 5_000_000),
  }))
}

export const modelProviders = [
  create(ModelProviderSchema, {
    modelProviderId: 'mpr_1',
    name: 'env-anthropic',
    kind: ModelProviderKind.ANTHROPIC,
    baseUrl: 'https://api.anthropic.com',
    credential: { hasKey: true },
    source: ModelProviderSource.ENVIRONMENT,
  }),
  create(ModelProviderSchema, {
    modelProviderId: 'mpr_2',
    name: 'a-company-gateway-with-quite-a-long-name',
    kind: ModelProviderKind.OPENAI_COMPATIBLE,
    baseUrl: 'https://models.a-host-with-quite-a-long-name.example/a/long/path/v1',
    credential: { hasKey: true, lastFour: 'wxyz' },
    models: ['small', 'large', 'a-model-with-quite-a-long-name-2026-11-28'],
    source: ModelProviderSource.STORED,
  }),
]

export const profiles = [
  create(AgentProfileSchema, {
    profileId: 'prf_1',
    settings: { name: 'night', agent: 'claude', modelProviderId: 'mpr_1', model: 'large', effort: 'high', isDefault: true },
  }),
]

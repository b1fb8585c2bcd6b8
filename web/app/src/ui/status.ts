import {
  IconAlertTriangleFilled,
  IconArchive,
  IconCircle,
  IconCircleCheck,
  IconCircleDashed,
  IconCircleX,
  IconClock,
  IconHandStop,
  IconLoader2,
  IconKey,
  IconMessageCircle,
  IconPlugConnectedX,
  IconTrash,
  type Icon,
} from '@tabler/icons-react'
import { StageState } from '@foundry/client/gen/foundry/common/v1/common_pb'
import { RepositoryState } from '@foundry/client/gen/foundry/repo/v1/repo_pb'
import { SessionState, TaskState } from '@foundry/client/gen/foundry/task/v1/task_pb'

/** The meaning of a state for people: fine, in progress, waiting for someone, failed, or inactive. */
export type Tone = 'ok' | 'busy' | 'wait' | 'error' | 'quiet'

/** A state as it is shown: always with a word and an icon, never by colour alone. */
export interface Status {
  readonly word: string
  readonly tone: Tone
  readonly icon: Icon
  /** Whether the icon turns. */
  readonly spins?: boolean
}

const unknown: Status = { word: 'Unknown', tone: 'quiet', icon: IconCircle }
const busy = (word: string): Status => ({ word, tone: 'busy', icon: IconLoader2, spins: true })
const failed: Status = { word: 'Failed', tone: 'error', icon: IconAlertTriangleFilled }

const tasks: Partial<Record<TaskState, Status>> = {
  [TaskState.QUEUED]: { word: 'Queued', tone: 'busy', icon: IconClock },
  [TaskState.NAMING]: busy('Naming'),
  [TaskState.PENDING_BRANCH]: busy('Looking for its branch'),
  [TaskState.CREATING_SANDBOX]: busy('Creating sandbox'),
  [TaskState.ENSURING_AGENT]: busy('Starting agent'),
  [TaskState.CREATING_SESSION]: busy('Creating session'),
  [TaskState.RUNNING]: busy('Running'),
  [TaskState.IDLE]: { word: 'Idle', tone: 'ok', icon: IconCircleCheck },
  [TaskState.ERROR]: failed,
  [TaskState.ARCHIVING]: busy('Archiving'),
  [TaskState.ARCHIVED]: { word: 'Archived', tone: 'quiet', icon: IconArchive },
  [TaskState.KILLING]: busy('Killing'),
  [TaskState.KILLED]: { word: 'Killed', tone: 'quiet', icon: IconCircleX },
}

/** The state of a task for people. */
export function taskStatus(state: TaskState): Status {
  return tasks[state] ?? unknown
}

/** A task that waits for a person's answer to the agent. */
export const waitsForAnswer: Status = { word: 'Needs an answer', tone: 'wait', icon: IconHandStop }

/** A task with entries that the viewer has not seen. */
export const somethingNew: Status = { word: 'New', tone: 'busy', icon: IconMessageCircle }

const sessions: Partial<Record<SessionState, Status>> = {
  [SessionState.PENDING_PROVISION]: { word: 'Waiting for sandbox', tone: 'busy', icon: IconClock },
  [SessionState.PENDING_SESSION_CREATE]: busy('Starting'),
  [SessionState.READY]: { word: 'Ready', tone: 'ok', icon: IconCircleCheck },
  [SessionState.RUNNING]: busy('Running'),
  [SessionState.IDLE]: { word: 'Idle', tone: 'ok', icon: IconCircleCheck },
  [SessionState.INTERRUPTED]: { word: 'Interrupted', tone: 'wait', icon: IconPlugConnectedX },
  [SessionState.ERROR]: failed,
  [SessionState.CLOSED]: { word: 'Closed', tone: 'quiet', icon: IconCircleX },
}

/** The state of a session for people. */
export function sessionStatus(state: SessionState): Status {
  return sessions[state] ?? unknown
}

const repositories: Record<string, Status> = {
  pending: busy('Mirroring'),
  ready: { word: 'Ready', tone: 'ok', icon: IconCircleCheck },
  syncing: busy('Syncing'),
  error: failed,
  deleting: { word: 'Deleting', tone: 'quiet', icon: IconTrash },
}

const needsCredential: Status = { word: 'Needs a credential', tone: 'wait', icon: IconKey }

const repositoryWords: Partial<Record<RepositoryState, string>> = {
  [RepositoryState.PENDING]: 'pending',
  [RepositoryState.READY]: 'ready',
  [RepositoryState.SYNCING]: 'syncing',
  [RepositoryState.ERROR]: 'error',
  [RepositoryState.DELETING]: 'deleting',
}

/** The state of a repository's mirror for people; `state` is that of a repository, or the word in its summary. */
export function repositoryStatus(state: RepositoryState | string, reason = ''): Status {
  const word = typeof state === 'string' ? state : (repositoryWords[state] ?? '')
  if (word === 'error' && reason.startsWith('REPOSITORY_CREDENTIALS_')) return needsCredential
  return repositories[word] ?? unknown
}

const stages: Partial<Record<StageState, Status>> = {
  [StageState.PENDING]: { word: 'Not started', tone: 'quiet', icon: IconCircleDashed },
  [StageState.RUNNING]: busy('Running'),
  [StageState.WAITING]: { word: 'Waiting', tone: 'wait', icon: IconClock },
  [StageState.DONE]: { word: 'Done', tone: 'ok', icon: IconCircleCheck },
  [StageState.FAILED]: failed,
  [StageState.CANCELLED]: { word: 'Cancelled', tone: 'quiet', icon: IconCircleX },
}

/** The state of a stage for people. */
export function stageStatus(state: StageState): Status {
  return stages[state] ?? unknown
}

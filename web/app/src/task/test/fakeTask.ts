import { create, fromBinary, type MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs, type Timestamp } from '@bufbuild/protobuf/wkt'
import { SessionLog, topics, type Foundry, type Topic, type TopicPhase, type TopicState } from '@foundry/client'
import { TranscriptPartSchema } from '@foundry/client/gen/foundry/common/v1/transcript_pb'
import {
  QueuedMessageSchema,
  SessionItemSchema,
  SessionSchema,
  TaskItemSchema,
  TaskSchema,
  TranscriptEntrySchema,
  type QueuedMessage,
  type Session,
  type SessionItem,
  type Task,
  type TaskItem,
  type TranscriptEntry,
} from '@foundry/client/gen/foundry/task/v1/task_pb'
import { WatchSessionRequestSchema } from '@foundry/client/gen/foundry/task/v1/task_service_pb'
import { FakeFoundry, type FakeCalls } from '../../test/fakeFoundry'

/** Body of a transcript part, as tests write it. */
export type Said = NonNullable<MessageInitShape<typeof TranscriptPartSchema>['body']>

type PartFields = { messageId?: string; blockId?: string; partNumber?: number; runtimeInstance?: bigint; createTime?: Timestamp }

/** An entry of a transcript. */
export function entry(offset: number, body: Said, rest: PartFields = {}): TranscriptEntry {
  const part = create(TranscriptPartSchema, { messageId: 'msg_1', runtimeInstance: 1n, ...rest, body })
  return create(TranscriptEntrySchema, { sessionId: 'ses_1', offset: BigInt(offset), part })
}

/** A task that is idle by default. */
export function aTask(rest: MessageInitShape<typeof TaskSchema> = {}): Task {
  return create(TaskSchema, {
    taskId: 'task_1',
    organizationId: 'org_1',
    repositoryId: 'repo_1',
    title: 'Greet people by name',
    branch: 'foundry/greet-people-by-name',
    baseBranch: 'main',
    agent: 'demo',
    provider: 'local',
    state: 7,
    permissionPolicy: 1,
    createTime: timestampFromMs(Date.now() - 600_000),
    ...rest,
  })
}

/** A session that is idle by default. */
export function aSession(rest: MessageInitShape<typeof SessionSchema> = {}): Session {
  return create(SessionSchema, {
    sessionId: 'ses_1',
    taskId: 'task_1',
    organizationId: 'org_1',
    name: 'First',
    agent: 'demo',
    state: 5,
    createTime: timestampFromMs(1_000),
    ...rest,
  })
}

/** A queued message. */
export function aMessage(id: string, text: string, rest: MessageInitShape<typeof QueuedMessageSchema> = {}): QueuedMessage {
  const textSize = BigInt(new TextEncoder().encode(text).length)
  return create(QueuedMessageSchema, { messageId: id, sessionId: 'ses_1', textPreview: text.slice(0, 1024), textSize, state: 1, ...rest })
}

class SessionTopic {
  state: TopicState<SessionItem>
  readonly log = new SessionLog()
  readonly listeners = new Set<(state: TopicState<SessionItem>) => void>()

  constructor(readonly after: number) {
    this.state = { phase: 'loading', entities: new Map(), rev: 0n, since: Date.now(), index: this.log }
  }

  apply(changes: readonly [string, SessionItem | undefined][], phase: TopicPhase): void {
    this.log.apply(changes)
    this.state = { ...this.state, phase, rev: this.state.rev + 1n }
    for (const listener of this.listeners) listener(this.state)
  }
}

/** A client that shows one task with its sessions; transcripts grow in place as in the real client. */
export class FakeTask {
  readonly fake: FakeFoundry
  readonly client: Foundry
  private readonly sessions = new Map<string, SessionTopic>()
  private readonly kept = new Map<string, [string, SessionItem | undefined][]>()

  constructor(calls: FakeCalls = {}) {
    this.fake = new FakeFoundry(calls)
    const own = {
      subscribe: <T>(topic: Topic<T>, listener: (state: TopicState<T>) => void) =>
        topic.kind === 'session' ? this.listen(topic as unknown as Topic<never>, listener as never) : this.fake.subscribe(topic, listener),
      topicState: <T>(topic: Topic<T>) =>
        topic.kind === 'session' ? this.sessionOf(topic as unknown as Topic<never>).state : this.fake.topicState(topic),
    }
    this.client = Object.assign(Object.create(this.fake) as FakeFoundry, own) as unknown as Foundry
  }

  /** Shows the task and its sessions. */
  showTask(task: Task, sessions: readonly Session[], phase: TopicPhase = 'live'): void {
    const items: [string, TaskItem][] = [[`task/${task.taskId}`, create(TaskItemSchema, { item: { case: 'task', value: task } })]]
    for (const session of sessions) {
      items.push([`session/${session.sessionId}`, create(TaskItemSchema, { item: { case: 'session', value: session } })])
    }
    this.fake.show(topics.task(task.taskId), items, phase)
  }

  /** Shows a session, its queue (undefined removes a message) and more entries of its transcript. */
  showSession(
    session: Session,
    entries: readonly TranscriptEntry[] = [],
    queue: readonly (QueuedMessage | string)[] = [],
    phase: TopicPhase = 'live',
  ): void {
    const { sessionId } = session
    const changes: [string, SessionItem | undefined][] = [[`session/${sessionId}`, item('session', session)]]
    for (const message of queue) {
      if (typeof message === 'string') changes.push([`message/${message}`, undefined])
      else changes.push([`message/${message.messageId}`, item('message', message)])
    }
    for (const each of entries) changes.push([`entry/${String(each.offset).padStart(12, '0')}`, item('entry', each)])
    this.kept.set(sessionId, [...(this.kept.get(sessionId) ?? []), ...changes])
    for (const [key, topic] of this.sessions) if (key.startsWith(`${sessionId}/`)) topic.apply(after(changes, topic.after), phase)
  }

  private listen(topic: Topic<never>, listener: (state: TopicState<SessionItem>) => void): () => void {
    const { listeners } = this.sessionOf(topic)
    listeners.add(listener)
    return () => listeners.delete(listener)
  }

  private sessionOf(topic: Topic<never>): SessionTopic {
    const { sessionId, afterOffset } = fromBinary(WatchSessionRequestSchema, topic.request)
    const key = `${sessionId}/${afterOffset}`
    let found = this.sessions.get(key)
    if (found === undefined) {
      found = new SessionTopic(Number(afterOffset))
      this.sessions.set(key, found)
      const known = this.kept.get(sessionId)
      if (known !== undefined) found.apply(after(known, found.after), 'live')
    }
    return found
  }
}

function item(kind: 'session' | 'message' | 'entry', value: Session | QueuedMessage | TranscriptEntry): SessionItem {
  return create(SessionItemSchema, { item: { case: kind, value } as SessionItem['item'] })
}

function after(changes: readonly [string, SessionItem | undefined][], offset: number): [string, SessionItem | undefined][] {
  return changes.filter(([, each]) => each?.item.case !== 'entry' || Number(each.item.value.offset) > offset)
}

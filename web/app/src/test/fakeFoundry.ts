import { create } from '@bufbuild/protobuf'
import type { BegunSignIn, ConnectionState, Foundry, LogEvent, SetUp, SignInWays, Topic, TopicPhase, TopicState } from '@foundry/client'
import { FoundryError } from '@foundry/client'
import type { AppShellItem } from '@foundry/client/gen/foundry/auth/v1/auth_pb'
import { AppShellItemSchema } from '@foundry/client/gen/foundry/auth/v1/auth_pb'

type Listener = () => void
type Calls = Record<string, (request: never) => unknown>

/** Answers of a fake to unary calls, by service; other calls fail as UNIMPLEMENTED. */
export interface FakeCalls {
  auth?: Calls
  task?: Calls
  repo?: Calls
  provisioner?: Calls
  profile?: Calls
  attachment?: Calls
}

class Cell<T> {
  private readonly listeners = new Set<Listener>()
  constructor(private value: T) {}
  readonly get = (): T => this.value
  readonly subscribe = (listener: Listener): (() => void) => {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }
  set(value: T): void {
    this.value = value
    for (const listener of this.listeners) listener()
  }
}

/** A client without a server: tests set topics and connection, and see which calls were made. */
export class FakeFoundry {
  readonly connection = new Cell<ConnectionState>({ phase: 'open', since: Date.now(), attempt: 0 })
  readonly log = new Cell<readonly LogEvent[]>([])
  readonly made: { service: string; method: string; request: unknown }[] = []
  readonly signIns: { secret: string; login: string; organization?: string }[] = []
  signInError: FoundryError | undefined
  readonly auth = this.service('auth')
  readonly task = this.service('task')
  readonly repo = this.service('repo')
  readonly provisioner = this.service('provisioner')
  private readonly profile = this.service('profile')
  private readonly attachment = this.service('attachment')
  private readonly topics = new Map<string, Cell<TopicState<unknown> | undefined>>()

  constructor(private readonly calls: FakeCalls = {}) {}

  /** The fake in the type that the page expects. */
  get client(): Foundry {
    return this as unknown as Foundry
  }

  /** The clients of services that have no field of their own. */
  callsOf(service: { readonly typeName: string }): unknown {
    return service.typeName.endsWith('.AttachmentService') ? this.attachment : this.profile
  }

  /** Shows entities in a topic. */
  show<T>(topic: Topic<T>, entities: Iterable<readonly [string, T]>, phase: TopicPhase = 'live', error?: FoundryError): void {
    const before = this.cell(topic).get()
    const rev = (before?.rev ?? 0n) + 1n
    this.cell(topic).set({ phase, entities: new Map(entities), rev, since: Date.now(), error })
  }

  readonly subscribe = <T>(topic: Topic<T>, listener: (state: TopicState<T>) => void): (() => void) =>
    this.cell(topic).subscribe(() => {
      const state = this.cell(topic).get()
      if (state !== undefined) listener(state as TopicState<T>)
    })

  readonly topicState = <T>(topic: Topic<T>): TopicState<T> | undefined => this.cell(topic).get() as TopicState<T> | undefined

  async signIn(secret: string, login: string, organization?: string): Promise<void> {
    this.signIns.push({ secret, login, organization })
    if (this.signInError !== undefined) throw this.signInError
    this.connection.set({ phase: 'connecting', since: Date.now(), attempt: 0 })
  }

  /** The ways to sign in; tests may set others. */
  ways: SignInWays = { ways: [], development: true, setUpRequired: false, publicUrl: '' }
  /** Why the ways cannot be loaded. */
  waysError: FoundryError | undefined
  readonly begun: { provider: string; setUp?: SetUp }[] = []
  readonly completed: { signInId: string; claim: string; returnSecret: string }[] = []

  async signInWays(): Promise<SignInWays> {
    if (this.waysError !== undefined) throw this.waysError
    return this.ways
  }

  async beginSignIn(provider: string, setUp?: SetUp): Promise<BegunSignIn> {
    this.begun.push({ provider, setUp })
    if (this.signInError !== undefined) throw this.signInError
    return { signInId: 'sgn_1', claim: 'claim', url: 'https://provider.example/authorize' }
  }

  async completeSignIn(signInId: string, claim: string, returnSecret: string): Promise<void> {
    this.completed.push({ signInId, claim, returnSecret })
    if (this.signInError !== undefined) throw this.signInError
    this.connection.set({ phase: 'connecting', since: Date.now(), attempt: 0 })
  }

  async signOut(): Promise<void> {
    // As in the real client, the connection changes after the answer.
    setTimeout(() => this.connection.set({ phase: 'signed-out', since: Date.now(), attempt: 0 }))
  }

  reconnectNow(): void {
    this.made.push({ service: 'connection', method: 'reconnectNow', request: undefined })
  }

  dispose(): void {}

  private cell(topic: Topic<unknown>): Cell<TopicState<unknown> | undefined> {
    let cell = this.topics.get(topic.key)
    if (cell === undefined) {
      cell = new Cell<TopicState<unknown> | undefined>(undefined)
      this.topics.set(topic.key, cell)
    }
    return cell
  }

  private service(service: keyof FakeCalls): unknown {
    const answer = (method: string) => async (request: never) => {
      this.made.push({ service, method, request })
      const call = this.calls[service]?.[method]
      if (call === undefined) throw new FoundryError({ code: 12, message: `${service}.${method} has no fake answer` })
      return call(request)
    }
    return new Proxy({}, { get: (_, method) => answer(String(method)) })
  }
}

/** The entities of an app shell with one user in one or more organizations. */
export function shellItems(organizations: readonly { id: string; name: string; role: number }[]): [string, AppShellItem][] {
  const user = {
    case: 'user' as const,
    value: { userId: 'usr_1', login: 'grace', displayName: 'Grace', activeOrganizationId: organizations[0]?.id ?? '' },
  }
  return [
    ['user/usr_1', create(AppShellItemSchema, { item: user })],
    ...organizations.map(({ id, name, role }): [string, AppShellItem] => [
      `organization/${id}`,
      create(AppShellItemSchema, { item: { case: 'organization', value: { organizationId: id, name, role } } }),
    ]),
  ]
}

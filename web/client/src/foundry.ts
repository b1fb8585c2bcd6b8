import type { DescService, MessageInitShape } from '@bufbuild/protobuf';
import type { Client, Transport } from '@connectrpc/connect';
import { Code } from '@connectrpc/connect';
import { sessionClient, type CallSession } from './calls/client';
import { SESSION_KEY_HEADER } from './calls/headers';
import { callTransport, watchTransport } from './calls/transport';
import { FoundryError } from './errors';
import {
  AuthService,
  SessionDelivery,
  type CompleteSignInRequestSchema,
  type CompleteSignInResponse,
} from './gen/foundry/auth/v1/auth_service_pb';
import { ProvisionerService } from './gen/foundry/provisioner/v1/provisioner_service_pb';
import { RepoService } from './gen/foundry/repo/v1/repo_service_pb';
import { TaskService } from './gen/foundry/task/v1/task_service_pb';
import { withNextFrame, type Schedule } from './page/frames';
import { Link, type ToPageItself } from './page/link';
import { PageStore } from './page/pageStore';
import { beginSignIn, loadSignInWays, type BegunSignIn, type SetUp, type SignInWays } from './signIn';
import { LocalSessionKeyStore, type SessionKeyStore } from './sessionKey';
import type { ConnectionState, LogEvent, Topic, TopicState } from './types';
import { systemEnv } from './watch/env';
import { SubscriptionManager } from './watch/manager';
import type { WatchTransport } from './watch/transport';
import { createSharedWorker } from './worker/create';
import { Host } from './worker/host';
import { localPorts, type PagePort } from './worker/protocol';

/** How long a shared worker may take to answer, in milliseconds. */
const WELCOME_MS = 10_000;

/** A value with change notifications, in the shape that `useSyncExternalStore` expects. */
export interface Readable<T> {
  get(): T;
  subscribe(listener: () => void): () => void;
}

/** Options of a client; a page needs none of them. */
export interface FoundryOptions {
  /** Address of the gateway; default: the page's origin. */
  baseUrl?: string;
  /** Where the session key is kept; default: the storage of the page's origin. */
  sessionKey?: SessionKeyStore;
  /** Where the subscriptions live; default: in a worker that all tabs share, where the browser has one. */
  worker?: 'shared' | 'page';
  /** Makes the shared worker. */
  createWorker?: () => SharedWorker;
  /** Sends calls, and watches too if they live in the page; default: the platform's `fetch`. */
  fetch?: typeof globalThis.fetch;
  /** Carries the watches if they live in the page; for tests. */
  watches?: WatchTransport;
  /** When listeners are called after changes; default: once per frame. */
  schedule?: Schedule;
}

/** All calls and watches of a page; one per page. Calls fail with `FoundryError`. */
export class Foundry {
  readonly auth: Client<typeof AuthService>;
  readonly task: Client<typeof TaskService>;
  readonly repo: Client<typeof RepoService>;
  readonly provisioner: Client<typeof ProvisionerService>;
  /** State of the connection; listeners are called at once. */
  readonly connection: Readable<ConnectionState>;
  /** The newest 500 entries of the log that explains why data was loaded, lost or refreshed. */
  readonly log: Readable<readonly LogEvent[]>;
  private readonly baseUrl: string;
  private readonly keys: SessionKeyStore;
  private readonly link: Link;
  private readonly store: PageStore;
  private readonly transport: Transport;
  private readonly session: CallSession;
  /** Clients of services that only some parts of a page call, by type name. */
  private readonly others = new Map<string, unknown>();
  private readonly stopKeys: () => void;
  private key?: string;
  private host?: Host;
  private shared?: SharedWorker;
  private stopWelcome?: () => void;
  /** Why this page started over with a new worker. */
  private beginning?: LogEvent;

  constructor(private readonly options: FoundryOptions = {}) {
    const baseUrl = options.baseUrl ?? location.origin;
    this.baseUrl = baseUrl;
    this.keys = options.sessionKey ?? new LocalSessionKeyStore();
    this.link = new Link({
      baseUrl,
      sessionKey: () => this.keys.get(),
      isKnown: (key) => this.store.isKnown(key),
      receive: (message) => this.receive(message),
      returned: () => {
        this.followKey();
        this.link.attach(this.open());
      },
      lost: () => this.reattach(),
    });
    this.store = new PageStore(this.link, options.schedule ?? withNextFrame);
    const { store } = this;
    if (this.keys.get() === undefined) store.connection = { ...store.connection, phase: 'signed-out' };
    this.connection = readable(() => store.connection, store.connectionListeners);
    this.log = readable(() => store.log, store.logListeners);
    const transport = callTransport({ baseUrl, fetch: options.fetch });
    const session: CallSession = {
      key: () => this.keys.get(),
      refused: (key, error) => this.link.doubt(key, error.facts()),
    };
    this.transport = transport;
    this.session = session;
    this.auth = sessionClient(AuthService, transport, session);
    this.task = sessionClient(TaskService, transport, session);
    this.repo = sessionClient(RepoService, transport, session);
    this.provisioner = sessionClient(ProvisionerService, transport, session);
    this.key = this.keys.get();
    this.stopKeys = this.keys.subscribe(() => this.followKey());
    this.link.attach(this.open());
  }

  /** The client of another service, whose description is loaded with the part of the page that calls it. */
  callsOf<S extends DescService>(service: S): Client<S> {
    let calls = this.others.get(service.typeName) as Client<S> | undefined;
    if (!calls) {
      calls = sessionClient(service, this.transport, this.session);
      this.others.set(service.typeName, calls);
    }
    return calls;
  }

  /**
   * Watches a topic until the returned function is called. The listener is called for every change, at most once per
   * frame; `topicState` has the present state. Topics with equal keys share one watch, which is kept for 30 s after
   * its last listener.
   */
  subscribe<T>(topic: Topic<T>, listener: (state: TopicState<T>) => void): () => void {
    return this.store.subscribe(topic, listener);
  }

  /** The present state of a topic; the same object until it changes. Undefined while nobody watches the topic. */
  topicState<T>(topic: Topic<T>): TopicState<T> | undefined {
    return this.store.state(topic);
  }

  /**
   * Signs in with the development secret; the session is delivered as a cookie and a key.
   * @throws FoundryError
   */
  async signIn(secret: string, login: string, organizationName = ''): Promise<CompleteSignInResponse> {
    return this.openSession({ case: 'development', value: { secret, login, organizationName } });
  }

  /** The ways to sign in. @throws FoundryError */
  async signInWays(): Promise<SignInWays> {
    return loadSignInWays(this.options.fetch ?? globalThis.fetch.bind(globalThis), this.baseUrl);
  }

  /** Begins a sign-in at a provider; go to its address afterwards. @throws FoundryError */
  async beginSignIn(provider: string, setUp?: SetUp): Promise<BegunSignIn> {
    return beginSignIn(this.options.fetch ?? globalThis.fetch.bind(globalThis), this.baseUrl, provider, setUp);
  }

  /**
   * Opens the session of a sign-in that has come back from a provider, with the secrets of its beginning and its return.
   * @throws FoundryError
   */
  async completeSignIn(signInId: string, claim: string, returnSecret: string): Promise<CompleteSignInResponse> {
    return this.openSession({ case: 'provider', value: { signInId, claim, returnSecret } });
  }

  private async openSession(proof: MessageInitShape<typeof CompleteSignInRequestSchema>['proof']): Promise<CompleteSignInResponse> {
    let key: string | null = null;
    const response = await this.auth.completeSignIn(
      { proof, sessionDelivery: SessionDelivery.COOKIE },
      { onHeader: (headers) => (key = headers.get(SESSION_KEY_HEADER)) },
    );
    if (!key) {
      throw new FoundryError({
        code: Code.Internal,
        reason: 'SESSION_KEY_MISSING',
        message: 'The response to the sign-in contains no session key.',
        nextAction: 'Open the page at the address of the gateway.',
      });
    }
    this.useKey(key);
    return response;
  }

  /** Ends the session in all tabs. @throws FoundryError when the server was not reached; then nothing changes. */
  async signOut(): Promise<void> {
    try {
      await this.auth.signOut({});
    } catch (error) {
      // Already signed out: there is nothing to end.
      if (FoundryError.from(error).code !== Code.Unauthenticated) throw error;
    }
    this.useKey(undefined);
  }

  /** Connects at once instead of waiting for the next attempt, and asks again for topics that have ended. */
  reconnectNow(): void {
    this.link.reconnect();
  }

  /** Ends all watches of this page. */
  dispose(): void {
    this.stopKeys();
    this.stopWelcome?.();
    this.link.dispose();
    this.store.dispose();
    queueMicrotask(() => this.host?.dispose());
  }

  private useKey(key: string | undefined): void {
    this.keys.set(key);
    this.followKey();
  }

  /** Takes over the session key that the origin has now, whichever tab has set it. */
  private followKey(): void {
    const key = this.keys.get();
    if (key === this.key) return;
    this.key = key;
    this.store.forget();
    this.link.session(key);
  }

  /** Starts over when the worker has died: a browser ends it when the tab in whose process it runs crashes. */
  private reattach(): void {
    const detail = 'The worker shared by all tabs has died; this tab continues with another one.';
    this.beginning = { at: Date.now(), what: 'reconnect', detail };
    this.store.markStale();
    this.link.attach(this.open());
  }

  private open(): PagePort {
    this.stopWelcome?.();
    const { worker = typeof SharedWorker === 'undefined' ? 'page' : 'shared' } = this.options;
    const shared = worker === 'shared' && !this.host ? this.tryWorker() : undefined;
    this.shared = shared;
    if (!shared) return this.openHere();
    // A worker that cannot be loaded never sends `welcome`.
    let isWelcome = false;
    const doWithout = () => {
      if (!isWelcome && this.shared === shared && !this.host) this.link.attach(this.openHere());
    };
    shared.onerror = doWithout;
    const stopWaiting = systemEnv.after(WELCOME_MS, doWithout);
    this.stopWelcome = () => {
      isWelcome = true;
      stopWaiting();
    };
    return shared.port as unknown as PagePort;
  }

  /** The worker of this origin, unless the browser's settings forbid it. */
  private tryWorker(): SharedWorker | undefined {
    try {
      return (this.options.createWorker ?? createSharedWorker)();
    } catch (error) {
      console.warn('No shared worker: this tab uses its own connection.', error);
      return undefined;
    }
  }

  private openHere(): PagePort {
    const { fetch, watches = watchTransport({ baseUrl: this.baseUrl, fetch }) } = this.options;
    const [page, host] = localPorts();
    this.host ??= new Host(() => new SubscriptionManager(watches, systemEnv));
    this.host.connect(host);
    return page;
  }

  private receive(message: ToPageItself): void {
    switch (message.kind) {
      case 'welcome':
        this.stopWelcome?.();
        this.store.clearLog();
        if (this.beginning) this.store.append([this.beginning]);
        this.beginning = undefined;
        return;
      case 'topic':
        return this.store.update(message.update);
      case 'dropped':
        return this.store.dropped(message.key);
      case 'connection':
        return this.store.connect(message.state);
      case 'log':
        return this.store.append(message.events);
      case 'refused':
        // Another tab may have signed in since.
        if (this.keys.get() === message.sessionKey) this.useKey(undefined);
        return;
    }
  }
}

function readable<T>(get: () => T, listeners: Set<() => void>): Readable<T> {
  return {
    get,
    subscribe: (listener) => {
      const own = () => listener();
      listeners.add(own);
      return () => listeners.delete(own);
    },
  };
}

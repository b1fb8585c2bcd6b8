import { FoundryError } from '../errors';
import type { ConnectionState, LogEvent, Topic, TopicState } from '../types';
import type { ConnectionUpdate, TopicUpdate } from '../watch/updates';
import type { Schedule } from './frames';
import { PageTopic } from './pageTopic';

const LOG_LENGTH = 500;

/** Keeps topics up to date for the page. */
export interface TopicSource {
  hold<T>(topic: Topic<T>): void;
  release(key: string): void;
}

/** All subscribed data that a page shows. Listeners are called at most once per frame. */
export class PageStore {
  connection: ConnectionState = { phase: 'connecting', since: Date.now(), attempt: 0 };
  log: readonly LogEvent[] = [];
  readonly connectionListeners = new Set<() => void>();
  readonly logListeners = new Set<() => void>();
  // biome-ignore lint/suspicious/noExplicitAny: of any entity; the topic given with a key fixes its type
  private readonly topics = new Map<string, PageTopic<any>>();
  private readonly dirty = new Set<string>();
  private newEvents: LogEvent[] = [];
  private stopFlush?: () => void;

  constructor(
    private readonly source: TopicSource,
    private readonly schedule: Schedule,
  ) {}

  /** Calls the listener at every change of the topic until the returned function is called. */
  subscribe<T>(topic: Topic<T>, listener: (state: TopicState<T>) => void): () => void {
    const shown = this.topics.get(topic.key) ?? new PageTopic(topic);
    this.topics.set(topic.key, shown);
    // A function of its own, so that one listener can be added twice.
    const own = (state: TopicState<T>) => listener(state);
    if (shown.listeners.size === 0) this.source.hold(topic);
    shown.listeners.add(own);
    return () => {
      if (shown.listeners.delete(own) && shown.listeners.size === 0) this.source.release(topic.key);
    };
  }

  /** The state of a topic as its listeners last got it. */
  state<T>(topic: Topic<T>): TopicState<T> | undefined {
    return this.topics.get(topic.key)?.state;
  }

  /** Whether the page still has all that was sent of a topic. */
  isKnown(key: string): boolean {
    return this.topics.get(key)?.isKnown ?? false;
  }

  /** Applies a change of a topic. */
  update(update: TopicUpdate): void {
    const topic = this.topics.get(update.key);
    if (!topic) return;
    topic.push(update);
    this.dirty.add(update.key);
    this.plan();
  }

  /** The topic is no longer kept up to date. */
  dropped(key: string): void {
    const topic = this.topics.get(key);
    this.dirty.delete(key);
    if (topic?.listeners.size) topic.markStale();
    else this.topics.delete(key);
  }

  /** Marks all topics as stale: nothing updates them at the moment. */
  markStale(): void {
    for (const topic of this.topics.values()) topic.markStale();
    if (this.connection.phase === 'open') this.connect({ phase: 'reconnecting', since: Date.now(), attempt: 0 });
  }

  /** Applies a change of the connection, and calls the listeners at once. */
  connect({ error, ...state }: ConnectionUpdate): void {
    if (state.phase === 'signed-out') this.forget();
    this.connection = { ...state, error: error && new FoundryError(error) };
    for (const listener of [...this.connectionListeners]) listener();
  }

  /** Drops all data: the session is another one, or none. */
  forget(): void {
    for (const topic of this.topics.values()) topic.forget();
  }

  /** Adds entries of the event log. */
  append(events: readonly LogEvent[]): void {
    this.newEvents.push(...events);
    this.plan();
  }

  /** Clears the log, which is sent whole after each new start. */
  clearLog(): void {
    this.log = [];
    this.newEvents = [];
  }

  dispose(): void {
    this.stopFlush?.();
    this.topics.clear();
  }

  private plan(): void {
    this.stopFlush ??= this.schedule(() => this.flush());
  }

  private flush(): void {
    this.stopFlush = undefined;
    const keys = [...this.dirty];
    this.dirty.clear();
    for (const key of keys) this.topics.get(key)?.flush();
    if (this.newEvents.length === 0) return;
    this.log = [...this.log, ...this.newEvents].slice(-LOG_LENGTH);
    this.newEvents = [];
    for (const listener of [...this.logListeners]) listener();
  }
}

import type { FoundryError } from './errors';

/** What can be watched: a `Watch*` rpc with its request, and how its entities are decoded. */
export interface Topic<T> {
  /** Equal for equal topics. */
  readonly key: string;
  /** Path of the rpc, for example `/foundry.task.v1.TaskService/WatchTask`. */
  readonly method: string;
  /** The encoded request without its options. */
  readonly request: Uint8Array;
  /** Short name for logs, for example `task`. */
  readonly kind: string;
  /** Decodes one entity. */
  decode(bytes: Uint8Array): T;
  /** Makes a second view that is updated with the entities; see `sessionLog`. */
  readonly index?: () => EntityIndex<T>;
}

/** A view that is derived from the entities of a topic change by change. */
export interface EntityIndex<T> {
  /** Applies changes in order; undefined = the entity is gone. */
  apply(changes: Iterable<readonly [key: string, entity: T | undefined]>): void;
  /** Starts over from a snapshot. */
  reset(entities: Iterable<readonly [key: string, entity: T]>): void;
}

/**
 * How good the shown data is. `loading`: not yet complete. `live`: as the server has it. `stale`: may be old, because
 * the connection is being restored or the tab was hidden. `ended`: see `error`.
 */
export type TopicPhase = 'loading' | 'live' | 'stale' | 'ended';

/**
 * A topic's state in the page. The object is replaced at every change, and `entities` with it; unchanged entities
 * keep their identity. An old `entities` shows the newest data too: it is a view, not a copy, so that a change costs
 * the same however large the topic is.
 */
export interface TopicState<T> {
  readonly phase: TopicPhase;
  readonly entities: ReadonlyMap<string, T>;
  /** Revision that the entities show. */
  readonly rev: bigint;
  /** When the phase began, in milliseconds since the epoch. */
  readonly since: number;
  /** Why the topic has ended, or why it is being retried. */
  readonly error?: FoundryError;
  /** The view of the topic's `index`, when it has one. */
  readonly index?: EntityIndex<T>;
}

/**
 * Phase of the connection. `closed`: nothing is watched, the client was disposed, or the server refused the stream
 * for good (see `error`).
 */
export type ConnectionPhase = 'connecting' | 'open' | 'reconnecting' | 'offline' | 'signed-out' | 'closed';

/** The connection behind all topics. */
export interface ConnectionState {
  readonly phase: ConnectionPhase;
  /** When the phase began, in milliseconds since the epoch. */
  readonly since: number;
  /** Failed attempts in a row. */
  readonly attempt: number;
  /** When the next attempt starts, in milliseconds since the epoch. */
  readonly retryAt?: number;
  /** Why the connection was lost or refused. */
  readonly error?: FoundryError;
}

/** What an entry of the event log is about. */
export type LogKind =
  | 'opened'
  | 'resumed'
  | 'snapshot'
  | 'reset'
  | 'reconnect'
  | 'drain'
  | 'subscribed'
  | 'released'
  | 'dropped'
  | 'digest-mismatch'
  | 'gap'
  | 'auth'
  | 'online'
  | 'offline'
  | 'visible'
  | 'hidden'
  | 'ended';

/** One entry of the log that explains why data was loaded, lost or refreshed. */
export interface LogEvent {
  /** Milliseconds since the epoch. */
  readonly at: number;
  /** Key of the topic concerned; none when it concerns the connection. */
  readonly topic?: string;
  /** Short name of that topic, for example `task`. */
  readonly kind?: string;
  readonly what: LogKind;
  /** One sentence for people. */
  readonly detail: string;
}

import type { FoundryErrorFacts } from '../errors';
import type { ConnectionPhase, LogEvent, TopicPhase } from '../types';
import type { Row } from './frameChecker';

/** What the subscriptions need of a topic; decoding is up to the page. */
export interface TopicSpec {
  readonly key: string;
  readonly method: string;
  readonly request: Uint8Array;
  /** Short name for the event log. */
  readonly kind: string;
}

/** A change of a topic as its pages receive it. */
export interface TopicUpdate {
  readonly key: string;
  readonly phase: TopicPhase;
  /** When the phase began, in milliseconds since the epoch. */
  readonly since: number;
  readonly rev: bigint;
  /** Incarnation of the store: in one incarnation a row of equal key and version is the same. */
  readonly incarnation: string;
  readonly error?: FoundryErrorFacts;
  /** Whether `rows` is all there is; otherwise it is what changed. */
  readonly whole: boolean;
  readonly rows: readonly Row[];
}

/** The connection as pages receive it. */
export interface ConnectionUpdate {
  readonly phase: ConnectionPhase;
  readonly since: number;
  readonly attempt: number;
  readonly retryAt?: number;
  readonly error?: FoundryErrorFacts;
}

/** A page that gets updates. */
export interface Sink {
  topic(update: TopicUpdate): void;
  /** The topic is no longer kept up to date for this page. */
  dropped(key: string): void;
  connection(update: ConnectionUpdate): void;
  /** The server refuses the session with this key. */
  refused(sessionKey: string): void;
  log(events: readonly LogEvent[]): void;
}

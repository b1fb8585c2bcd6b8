import { Code } from '@connectrpc/connect';
import { FoundryError, type FoundryErrorFacts } from '../errors';
import type { ConnectionPhase, LogKind } from '../types';
import { Backoff } from './backoff';
import { EdgeStream, type StreamListener, type Sub } from './edgeStream';
import type { Env } from './env';
import type { TopicRecord } from './record';
import type { WatchTransport } from './transport';
import type { ConnectionUpdate } from './updates';

/** What the line asks its owner, and the events it sends. */
export interface LineListener {
  /** Whether no page shows a topic. */
  isIdle(): boolean;
  /** Topics that should be on the stream now. */
  wanted(): ReadonlySet<TopicRecord>;
  frame(stream: EdgeStream, sub: Sub, bytes: Uint8Array): void;
  ended(sub: Sub, error: FoundryError): void;
  /** No stream carries these watches any more. */
  markStale(subs: Iterable<Sub>, error?: FoundryError): void;
  refused(sessionKey: string, error: FoundryError): void;
  changed(state: ConnectionUpdate): void;
  log(what: LogKind, detail: string): void;
}

/** Topics that are requested within this time go with one stream. */
const BATCH_MS = 10;
/** Codes for which repeating the same call is useless. */
const FINAL: ReadonlySet<Code> = new Set([Code.PermissionDenied, Code.InvalidArgument, Code.NotFound, Code.Unimplemented]);

/** Whether an error is final: repeating the same call is useless. */
export function isFinal(error: FoundryError): boolean {
  return FINAL.has(error.code);
}

/** Keeps one stream open while something is watched; a second one only during a change of streams. */
export class Line implements StreamListener {
  state: ConnectionUpdate;
  private current?: EdgeStream;
  private next?: EdgeStream;
  private sessionKey?: string;
  private isOnline = true;
  private isRefused = false;
  private isDisposed = false;
  private wasOpen = false;
  private opened = 0;
  private stopWait?: () => void;
  private stopChange?: () => void;
  private readonly backoff: Backoff;
  private readonly changeBackoff: Backoff;

  constructor(
    private readonly transport: WatchTransport,
    private readonly env: Env,
    private readonly owner: LineListener,
  ) {
    this.state = { phase: 'signed-out', since: env.now(), attempt: 0 };
    this.backoff = new Backoff(env.random);
    this.changeBackoff = new Backoff(env.random);
  }

  /** Sets the session key. A new key starts over; none ends everything, for the given reason. */
  use(sessionKey: string | undefined, error?: FoundryError): void {
    this.sessionKey = sessionKey;
    this.closeAll();
    this.isRefused = false;
    this.backoff.reset();
    if (sessionKey === undefined) this.rest('signed-out', error);
    else this.refresh();
  }

  /** Adjusts the streams to the wanted topics. */
  refresh(): void {
    if (this.isDisposed) return;
    if (this.sessionKey === undefined) return this.rest('signed-out', this.state.error);
    if (this.owner.isIdle()) {
      // By the time of the next topic, the server may be a different one.
      this.isRefused = false;
      return this.rest('closed');
    }
    if (this.isRefused) return;
    if (!this.isOnline) return this.rest('offline');
    const wanted = this.owner.wanted();
    if (this.current) (this.next?.open ? this.next : this.current).sync(wanted);
    else if (!this.stopWait && wanted.size > 0) this.connectSoon();
  }

  /** The network was lost or is back. */
  network(isOnline: boolean): void {
    if (this.isOnline === isOnline) return;
    this.isOnline = isOnline;
    this.owner.log(isOnline ? 'online' : 'offline', isOnline ? 'The network is back.' : 'The network is gone.');
    this.backoff.reset();
    this.connectNow();
  }

  /** Connects at once instead of waiting for the next attempt or for an answer. */
  connectNow(): void {
    if (this.current && !this.current.open) this.closeAll();
    this.stopWait?.();
    this.stopWait = undefined;
    this.isRefused = false;
    this.refresh();
  }

  dispose(): void {
    this.closeAll();
    this.isDisposed = true;
    this.setState({ phase: 'closed', attempt: 0 });
  }

  /** Drops the watch of a topic on all streams but this one. */
  dropElsewhere(record: TopicRecord, kept?: EdgeStream): void {
    for (const stream of [this.current, this.next]) if (stream !== kept) stream?.drop(record);
  }

  /** A topic is up to date, so the connection works. */
  caughtUp(): void {
    this.backoff.reset();
    this.changeBackoff.reset();
  }

  hello(stream: EdgeStream, server: string): void {
    this.owner.log('opened', `A stream is open at ${server || 'the gateway'}.`);
    this.wasOpen = true;
    if (stream === this.current) this.setState({ phase: 'open', attempt: 0 });
    this.refresh();
    this.changeOver();
  }

  heard(): void {
    this.changeOver();
  }

  frame(stream: EdgeStream, sub: Sub, bytes: Uint8Array): void {
    this.owner.frame(stream, sub, bytes);
  }

  ended(_: EdgeStream, sub: Sub, error: FoundryError): void {
    this.owner.ended(sub, error);
    this.changeOver();
  }

  drain(stream: EdgeStream, reconnectAfterMs: number): void {
    this.owner.log('drain', `The server will end the stream; the next one opens in ${reconnectAfterMs} ms.`);
    if (stream === this.next) {
      // The old stream works until it ends; changing to another draining one is no use.
      stream.close();
      this.next = undefined;
    }
    this.planNext(reconnectAfterMs);
  }

  expiring(): void {
    this.owner.log('auth', 'The authorization of the stream is about to end.');
  }

  over(stream: EdgeStream, error: FoundryError): void {
    if (stream === this.next) return this.nextFailed(error);
    if (stream !== this.current) return;
    const { next } = this;
    this.current = undefined;
    this.stopChange?.();
    this.stopChange = undefined;
    if (next && !isAuth(error)) return this.promote(stream, next, error);
    next?.close();
    this.next = undefined;
    this.owner.markStale(stream.watches(), error);
    if (stream.draining && stream.open && !isAuth(error)) {
      // It ended before the next one was due, so the next one opens now.
      this.owner.log('reconnect', 'The drained stream ended; the next one opens now.');
      return this.refresh();
    }
    if (isAuth(error) && stream.open) {
      // Perhaps only the stream's token is invalid. If the session is over, opening the next stream fails.
      this.owner.log('auth', `The stream's authorization has ended: ${error.message}`);
      return this.retry(error);
    }
    this.lost(error);
  }

  /** A page that starts requests several topics in a row: a short wait lets one stream open with all of them. */
  private connectSoon(): void {
    const phase = this.wasOpen || this.backoff.failures > 0 ? 'reconnecting' : 'connecting';
    this.setState({ phase, attempt: this.backoff.failures, error: this.state.error });
    this.stopWait = this.env.after(BATCH_MS, () => {
      this.stopWait = undefined;
      this.current = this.open(this.owner.wanted());
    });
  }

  private open(wanted: Iterable<TopicRecord>): EdgeStream {
    const stream = new EdgeStream(this.transport, this.env, this.sessionKey ?? '', this, ++this.opened);
    stream.start(wanted);
    return stream;
  }

  private lost(error: FoundryError): void {
    if (isAuth(error)) {
      this.owner.log('auth', `The session was rejected: ${error.message}`);
      return this.owner.refused(this.sessionKey ?? '', error);
    }
    if (isFinal(error)) {
      this.isRefused = true;
      this.owner.log('ended', `The server rejected the stream: ${error.message}`);
      return this.setState({ phase: 'closed', attempt: this.backoff.failures, error });
    }
    this.retry(error);
  }

  private retry(error: FoundryError): void {
    const wait = Math.max(this.backoff.next(), error.retryAfterMs ?? 0);
    this.owner.log('reconnect', `${sentence(error.message)} Attempt ${this.backoff.failures} starts in ${wait} ms.`);
    const retryAt = this.env.now() + wait;
    this.setState({ phase: 'reconnecting', attempt: this.backoff.failures, retryAt, error });
    this.stopWait = this.env.after(wait, () => this.connectNow());
  }

  private planNext(ms: number): void {
    this.stopChange?.();
    this.stopChange = this.env.after(ms, () => {
      this.stopChange = undefined;
      if (this.current) this.next ??= this.open(this.owner.wanted());
    });
  }

  private nextFailed(error: FoundryError): void {
    this.next = undefined;
    if (!this.current) return this.lost(error);
    // The old stream works until it ends.
    const wait = Math.max(this.changeBackoff.next(), error.retryAfterMs ?? 0);
    this.owner.log('drain', `The next stream did not open: ${sentence(error.message)} Retrying in ${wait} ms.`);
    this.planNext(wait);
  }

  /** Closes the old stream as soon as the next one has brought every topic up to the same position. */
  private changeOver(): void {
    const { current, next } = this;
    if (!current || !next?.open) return;
    for (const { record, checker } of next.watches()) if (!record.isOwnedBy(checker)) return;
    current.close();
    this.current = next;
    this.next = undefined;
    this.owner.log('drain', 'The next stream has taken over.');
    this.settle();
  }

  private promote(old: EdgeStream, next: EdgeStream, error: FoundryError): void {
    this.current = next;
    this.next = undefined;
    this.owner.markStale(
      [...old.watches()].filter(({ record, checker }) => record.isOwnedBy(checker)),
      error,
    );
    this.owner.log('drain', 'The old stream has ended; the next one continues.');
    if (!next.open) this.setState({ phase: 'reconnecting', attempt: 0, error });
    this.settle();
  }

  private settle(): void {
    this.changeBackoff.reset();
    this.refresh();
  }

  /** Closes everything and makes no attempt. */
  private rest(phase: ConnectionPhase, error?: FoundryErrorFacts): void {
    this.closeAll();
    if (phase !== 'offline') this.wasOpen = false;
    this.setState({ phase, attempt: 0, error });
  }

  private closeAll(): void {
    this.stopWait?.();
    this.stopChange?.();
    this.stopWait = this.stopChange = undefined;
    const streams = [this.current, this.next];
    this.current = this.next = undefined;
    for (const stream of streams) {
      if (!stream) continue;
      stream.close();
      this.owner.markStale(stream.watches());
    }
  }

  private setState(state: Omit<ConnectionUpdate, 'since'>): void {
    const before = this.state;
    const error = state.error instanceof FoundryError ? state.error.facts() : state.error;
    const since = before.phase === state.phase ? before.since : this.env.now();
    const same = before.phase === state.phase && before.retryAt === state.retryAt && before.attempt === state.attempt;
    if (same && before.error?.message === error?.message) return;
    this.state = { ...state, error, since };
    this.owner.changed(this.state);
  }
}

/** A text with a full stop, so that another sentence can follow. */
export function sentence(words: string): string {
  return /[.!?]$/.test(words) ? words : `${words}.`;
}

function isAuth(error: FoundryError): boolean {
  return error.code === Code.Unauthenticated;
}

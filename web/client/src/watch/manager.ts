import type { FoundryError } from '../errors';
import type { LogEvent, LogKind } from '../types';
import { MAX_WATCHES, type EdgeStream, type Sub } from './edgeStream';
import type { Env } from './env';
import { Violation, type Step } from './frameChecker';
import { Holds } from './holds';
import { isFinal, Line, sentence, type LineListener } from './line';
import type { Effect, TopicRecord } from './record';
import type { WatchTransport } from './transport';
import type { ConnectionUpdate, Sink, TopicSpec } from './updates';

const LOG_LENGTH = 500;

/** A page's access to the subscriptions. */
export interface Tab {
  /**
   * Keeps a topic up to date, and sends it whole unless the page has it already; requests it again when it has ended.
   */
  hold(spec: TopicSpec, isKnown: boolean): void;
  /** Releases a topic; it is kept up to date for the grace period. */
  release(key: string, why: string): void;
  /** The page has ended. */
  leave(why: string): void;
}

/**
 * The subscriptions of all tabs of a browser: each topic once, all topics on one stream. Independent of entity types:
 * rows stay encoded, and pages decode what they show.
 */
export class SubscriptionManager implements LineListener {
  private readonly sinks = new Set<Sink>();
  private readonly events: LogEvent[] = [];
  private readonly holds: Holds;
  private readonly line: Line;
  private sessionKey?: string;

  constructor(
    transport: WatchTransport,
    private readonly env: Env,
  ) {
    this.holds = new Holds(env, { changed: () => this.line.refresh(), log: (...event) => this.log(...event) });
    this.line = new Line(transport, env, this);
  }

  /** Adds a page, which gets the connection's state and the whole log at once. */
  join(sink: Sink): Tab {
    this.sinks.add(sink);
    sink.connection(this.line.state);
    if (this.events.length > 0) sink.log([...this.events]);
    return {
      hold: (spec, isKnown) => this.holds.hold(sink, spec, isKnown),
      release: (key, why) => this.holds.release(sink, key, why),
      leave: (why) => {
        this.sinks.delete(sink);
        this.holds.leave(sink, why);
      },
    };
  }

  /** Sets the session key of the pages. Another session starts without any data of the former one. */
  useSession(sessionKey: string | undefined): void {
    if (sessionKey === this.sessionKey) return;
    this.sessionKey = sessionKey;
    this.log('auth', sessionKey === undefined ? 'Signed out.' : 'Signed in.');
    this.forgetEverything();
    this.line.use(sessionKey);
  }

  /** A call was refused as unauthenticated under this key. */
  doubtSession(sessionKey: string, error: FoundryError): void {
    if (sessionKey === this.sessionKey) this.refused(sessionKey, error);
  }

  /** The network was lost or is back, as reported by the browser. */
  network(isOnline: boolean): void {
    this.line.network(isOnline);
  }

  /** A page was shown or hidden. */
  visible(isVisible: boolean): void {
    this.log(isVisible ? 'visible' : 'hidden', isVisible ? 'A tab is shown.' : 'A tab is hidden.');
    if (isVisible && this.line.state.phase === 'reconnecting') this.line.connectNow();
  }

  /** Retries at once everything that waits or has ended. */
  reconnectNow(): void {
    for (const record of this.holds.records()) {
      if (record.phase === 'ended') this.show(record, record.restart());
      this.stopWaiting(record);
    }
    this.line.connectNow();
  }

  /** Ends everything. */
  dispose(): void {
    this.line.dispose();
    this.holds.dispose();
    this.sinks.clear();
  }

  isIdle(): boolean {
    return this.holds.isEmpty();
  }

  wanted(): ReadonlySet<TopicRecord> {
    const wanted = new Set<TopicRecord>();
    for (const record of this.holds.records()) {
      if (record.phase === 'ended' || record.waiting) continue;
      if (wanted.size === MAX_WATCHES) break;
      wanted.add(record);
    }
    return wanted;
  }

  frame(stream: EdgeStream, { record, checker }: Sub, bytes: Uint8Array): void {
    try {
      const step = checker.accept(bytes);
      const effect = record.apply(checker, step);
      this.logStep(record, step);
      if (effect) this.show(record, effect);
      if (step.kind === 'reset') this.afterReset(stream, record);
      if (step.kind === 'bookmark' && step.caughtUp) this.line.caughtUp();
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      this.restartBroken(record, error);
    }
  }

  ended({ record }: Sub, error: FoundryError): void {
    if (isFinal(error)) {
      this.log('ended', `${error.reason}: ${error.message}`, record);
      this.line.dropElsewhere(record);
      this.show(record, record.end(error));
    } else this.retryLater(record, error);
    this.line.refresh();
  }

  markStale(subs: Iterable<Sub>, error?: FoundryError): void {
    for (const { record } of subs) this.show(record, record.markStale(error));
  }

  refused(sessionKey: string, error: FoundryError): void {
    this.sessionKey = undefined;
    this.forgetEverything();
    this.line.use(undefined, error);
    for (const sink of this.sinks) sink.refused(sessionKey);
  }

  changed(state: ConnectionUpdate): void {
    for (const sink of this.sinks) sink.connection(state);
  }

  log(what: LogKind, detail: string, record?: TopicRecord): void {
    const event = { at: this.env.now(), topic: record?.spec.key, kind: record?.spec.kind, what, detail };
    this.events.push(event);
    if (this.events.length > LOG_LENGTH) this.events.shift();
    for (const sink of this.sinks) sink.log([event]);
  }

  private logStep(record: TopicRecord, step: Step): void {
    if (step.kind === 'hello' && step.resumed) this.log('resumed', 'Resumes from its position.', record);
    if (step.kind === 'snapshot') this.log('snapshot', `${step.rows.length} rows at ${step.position.rev}.`, record);
    if (step.kind === 'reset') this.log('reset', `The position cannot be resumed: ${step.reason}.`, record);
  }

  private afterReset(stream: EdgeStream, record: TopicRecord): void {
    if (record.position === undefined) this.line.dropElsewhere(record, stream);
    if (record.resetsTooOften()) {
      record.backoff.raiseToCap();
      this.retryLater(record);
    }
    this.line.refresh();
  }

  /** Restarts a watch that broke its contract: from its position, or from a snapshot if that was wrong. */
  private restartBroken(record: TopicRecord, violation: Violation): void {
    this.log(violation.what, violation.message, record);
    if (violation.what === 'digest-mismatch') record.forgetPosition();
    // At once the first time; a watch that breaks repeatedly waits.
    if (record.backoff.failures > 0) return this.retryLater(record);
    record.backoff.next();
    this.line.dropElsewhere(record);
    this.show(record, record.markStale());
    this.line.refresh();
  }

  private retryLater(record: TopicRecord, error?: FoundryError): void {
    this.line.dropElsewhere(record);
    const wait = Math.max(record.backoff.next(), error?.retryAfterMs ?? 0);
    this.log('reconnect', `${sentence(error?.message ?? 'The watch broke')} Retrying in ${wait} ms.`, record);
    this.show(record, record.markStale(error));
    record.waiting?.();
    record.waiting = this.env.after(wait, () => {
      record.waiting = undefined;
      this.line.refresh();
    });
    this.line.refresh();
  }

  private stopWaiting(record: TopicRecord): void {
    record.waiting?.();
    record.waiting = undefined;
  }

  private forgetEverything(): void {
    for (const record of this.holds.records()) this.show(record, record.restart());
  }

  private show(record: TopicRecord, effect: Effect | undefined): void {
    if (effect) this.holds.publish(record, record.update(effect));
  }
}

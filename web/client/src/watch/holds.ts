import type { LogKind } from '../types';
import { MAX_WATCHES } from './edgeStream';
import type { Env } from './env';
import { TopicRecord } from './record';
import type { Sink, TopicSpec, TopicUpdate } from './updates';

/** How long a topic is kept up to date after its last user let go, in milliseconds. */
export const GRACE_MS = 30_000;

interface Hold {
  /** Calls off the end of the grace period; none = the page looks at the topic. */
  stopGrace?: () => void;
}

interface Held {
  readonly record: TopicRecord;
  readonly holds: Map<Sink, Hold>;
}

/** What the holds tell their owner. */
export interface HoldsListener {
  /** Topics came or went. */
  changed(): void;
  log(what: LogKind, detail: string, record?: TopicRecord): void;
}

/** Who looks at which topics: references over all tabs, each let go with grace. */
export class Holds {
  private readonly topics = new Map<string, Held>();

  constructor(
    private readonly env: Env,
    private readonly listener: HoldsListener,
  ) {}

  /** The topics that are looked at or in their grace period. */
  *records(): IterableIterator<TopicRecord> {
    for (const { record } of this.topics.values()) yield record;
  }

  isEmpty(): boolean {
    return this.topics.size === 0;
  }

  /** A page looks at a topic; one that does not know it, or no longer, is told it whole. */
  hold(sink: Sink, spec: TopicSpec, isKnown: boolean): void {
    let held = this.topics.get(spec.key);
    if (!held) {
      this.makeRoom();
      held = { record: new TopicRecord(spec, this.env), holds: new Map() };
      this.topics.set(spec.key, held);
      this.listener.log('subscribed', 'A page looks at it.', held.record);
    }
    const { record, holds } = held;
    const hold = holds.get(sink);
    hold?.stopGrace?.();
    holds.set(sink, {});
    if (record.phase === 'ended') this.tell(record, record.update(record.restart()));
    // A page in its grace period has everything already, if it did not forget it.
    if (!hold || !isKnown) sink.topic(record.whole());
    this.listener.changed();
  }

  /** A page no longer looks at a topic. */
  release(sink: Sink, key: string, why: string): void {
    const held = this.topics.get(key);
    const hold = held?.holds.get(sink);
    if (!held || !hold || hold.stopGrace) return;
    this.listener.log('released', why, held.record);
    hold.stopGrace = this.env.after(GRACE_MS, () => this.drop(sink, held));
  }

  /** A page is gone; what it looked at has the same grace, for it may be loading anew. */
  leave(sink: Sink, why: string): void {
    for (const held of this.topics.values()) {
      const hold = held.holds.get(sink);
      if (!hold) continue;
      hold.stopGrace?.();
      held.holds.delete(sink);
      const gone: Hold = {};
      const ghost = { ...NOBODY };
      held.holds.set(ghost, gone);
      gone.stopGrace = this.env.after(GRACE_MS, () => this.drop(ghost, held));
      this.listener.log('released', why, held.record);
    }
  }

  /** Tells all pages that hold a topic. */
  tell(record: TopicRecord, update: TopicUpdate): void {
    for (const sink of this.topics.get(record.spec.key)?.holds.keys() ?? []) sink.topic(update);
  }

  dispose(): void {
    for (const { record, holds } of this.topics.values()) {
      for (const hold of holds.values()) hold.stopGrace?.();
      record.waiting?.();
    }
    this.topics.clear();
  }

  /** A stream carries so many topics and no more: the grace of the oldest ends early for one that is looked at. */
  private makeRoom(): void {
    if (this.topics.size < MAX_WATCHES) return;
    for (const held of this.topics.values()) {
      const holds = [...held.holds];
      if (holds.some(([, { stopGrace }]) => !stopGrace)) continue;
      for (const [sink, { stopGrace }] of holds) {
        stopGrace?.();
        this.drop(sink, held, 'Nobody looks at it, and the stream is full.');
      }
      return;
    }
  }

  private drop(sink: Sink, { record, holds }: Held, why = 'Nobody has looked at it for 30 s.'): void {
    holds.delete(sink);
    sink.dropped(record.spec.key);
    if (holds.size > 0) return;
    record.waiting?.();
    this.topics.delete(record.spec.key);
    this.listener.log('dropped', why, record);
    this.listener.changed();
  }
}

/** Stands for a page that is gone. */
const NOBODY: Sink = { topic() {}, dropped() {}, connection() {}, refused() {}, log() {} };

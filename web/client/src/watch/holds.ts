import type { LogKind } from '../types';
import { MAX_WATCHES } from './edgeStream';
import type { Env } from './env';
import { TopicRecord } from './record';
import type { Sink, TopicSpec, TopicUpdate } from './updates';

/** How long a topic is kept up to date after its last user has released it, in milliseconds. */
export const GRACE_MS = 30_000;

interface Hold {
  /** Cancels the end of the grace period; none = the page shows the topic. */
  stopGrace?: () => void;
}

interface Held {
  readonly record: TopicRecord;
  readonly holds: Map<Sink, Hold>;
}

/** Gets the events of the holds. */
export interface HoldsListener {
  /** Topics were added or removed. */
  changed(): void;
  log(what: LogKind, detail: string, record?: TopicRecord): void;
}

/** Which page shows which topics: references over all tabs, each released after a grace period. */
export class Holds {
  private readonly topics = new Map<string, Held>();

  constructor(
    private readonly env: Env,
    private readonly listener: HoldsListener,
  ) {}

  /** The topics that are shown or in their grace period. */
  *records(): IterableIterator<TopicRecord> {
    for (const { record } of this.topics.values()) yield record;
  }

  isEmpty(): boolean {
    return this.topics.size === 0;
  }

  /** A page shows a topic. The page is sent the whole topic, unless it still has it. */
  hold(sink: Sink, spec: TopicSpec, isKnown: boolean): void {
    let held = this.topics.get(spec.key);
    if (!held) {
      this.makeRoom();
      held = { record: new TopicRecord(spec, this.env), holds: new Map() };
      this.topics.set(spec.key, held);
      this.listener.log('subscribed', 'A page shows it.', held.record);
    }
    const { record, holds } = held;
    const hold = holds.get(sink);
    hold?.stopGrace?.();
    holds.set(sink, {});
    if (record.phase === 'ended') this.publish(record, record.update(record.restart()));
    // A page in its grace period is up to date already, unless it dropped its data.
    if (!hold || !isKnown) sink.topic(record.whole());
    this.listener.changed();
  }

  /** A page no longer shows a topic. */
  release(sink: Sink, key: string, why: string): void {
    const held = this.topics.get(key);
    const hold = held?.holds.get(sink);
    if (!held || !hold || hold.stopGrace) return;
    this.listener.log('released', why, held.record);
    hold.stopGrace = this.env.after(GRACE_MS, () => this.drop(sink, held));
  }

  /** A page has ended. Its topics get the grace period too, because it may be reloading. */
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

  /** Sends an update to all pages that hold a topic. */
  publish(record: TopicRecord, update: TopicUpdate): void {
    for (const sink of this.topics.get(record.spec.key)?.holds.keys() ?? []) sink.topic(update);
  }

  dispose(): void {
    for (const { record, holds } of this.topics.values()) {
      for (const hold of holds.values()) hold.stopGrace?.();
      record.waiting?.();
    }
    this.topics.clear();
  }

  /** Makes room on a full stream: ends the grace period of the oldest topic that no page shows. */
  private makeRoom(): void {
    if (this.topics.size < MAX_WATCHES) return;
    for (const held of this.topics.values()) {
      const holds = [...held.holds];
      if (holds.some(([, { stopGrace }]) => !stopGrace)) continue;
      for (const [sink, { stopGrace }] of holds) {
        stopGrace?.();
        this.drop(sink, held, 'No page shows it, and the stream is full.');
      }
      return;
    }
  }

  private drop(sink: Sink, { record, holds }: Held, why = 'No page has shown it for 30 s.'): void {
    holds.delete(sink);
    sink.dropped(record.spec.key);
    if (holds.size > 0) return;
    record.waiting?.();
    this.topics.delete(record.spec.key);
    this.listener.log('dropped', why, record);
    this.listener.changed();
  }
}

/** Takes the place of a page that has ended. */
const NOBODY: Sink = { topic() {}, dropped() {}, connection() {}, refused() {}, log() {} };

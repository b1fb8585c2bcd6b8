import type { QueuedMessage, Session, SessionItem, TranscriptEntry } from './gen/foundry/task/v1/task_pb';
import type { EntityIndex, TopicState } from './types';

/**
 * A session topic in the form of a transcript. `entries` grows in place: a reader keeps the array and the number of
 * entries it has handled, and continues from there. A new array means that it must start over. The log itself is one
 * object for the life of the topic: in React, depend on the `TopicState` or on `entries.length`.
 */
export class SessionLog implements EntityIndex<SessionItem> {
  /** The session; undefined before the first data. */
  session: Session | undefined;
  /** Queued messages in the order of their delivery; a new array at every change. */
  queue: readonly QueuedMessage[] = [];
  /** Transcript entries by offset, contiguous; appended to in place. */
  entries: TranscriptEntry[] = [];

  apply(changes: Iterable<readonly [string, SessionItem | undefined]>): void {
    const waiting = new Map<string, QueuedMessage | undefined>();
    for (const [key, entity] of changes) {
      const item = entity?.item;
      if (item?.case === 'entry') this.append(item.value);
      else if (item?.case === 'session') this.session = item.value;
      else if (item?.case === 'message') waiting.set(item.value.messageId, item.value);
      else if (key.startsWith('message/')) waiting.set(key.slice('message/'.length), undefined);
      else if (key.startsWith('session/')) this.session = undefined;
      else if (key.startsWith('entry/')) this.remove(BigInt(key.slice('entry/'.length)));
    }
    if (waiting.size > 0) this.requeue(waiting);
  }

  reset(entities: Iterable<readonly [string, SessionItem]>): void {
    this.session = undefined;
    this.queue = [];
    this.entries = [];
    this.apply([...entities].sort(byOffset));
  }

  private append(entry: TranscriptEntry): void {
    const last = this.entries.at(-1);
    if (last === undefined || entry.offset > last.offset) {
      this.entries.push(entry);
      return;
    }
    // Entries arrive in order; one that does not is inserted where it belongs, once.
    const at = this.entries.findIndex((e) => e.offset >= entry.offset);
    const known = this.entries[at]?.offset === entry.offset;
    this.entries = this.entries.toSpliced(at, known ? 1 : 0, entry);
  }

  private remove(offset: bigint): void {
    if (this.entries.some((e) => e.offset === offset)) {
      this.entries = this.entries.filter((e) => e.offset !== offset);
    }
  }

  private requeue(waiting: ReadonlyMap<string, QueuedMessage | undefined>): void {
    const kept = this.queue.filter((m) => !waiting.has(m.messageId));
    const changed = [...waiting.values()].filter((m) => m !== undefined);
    this.queue = [...kept, ...changed].sort(inOrder);
  }
}

/** The transcript of a session topic; undefined before its first state. */
export function sessionLog(state: TopicState<SessionItem> | undefined): SessionLog | undefined {
  return state?.index instanceof SessionLog ? state.index : undefined;
}

function byOffset([, a]: readonly [string, SessionItem], [, b]: readonly [string, SessionItem]): number {
  const difference = offsetOf(a) - offsetOf(b);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

function offsetOf({ item }: SessionItem): bigint {
  return item.case === 'entry' ? item.value.offset : 0n;
}

function inOrder(a: QueuedMessage, b: QueuedMessage): number {
  if (a.position !== b.position) return a.position < b.position ? -1 : 1;
  return a.messageId < b.messageId ? -1 : 1;
}

import { Code } from '@connectrpc/connect';
import { FoundryError } from '../errors';
import type { EntityIndex, Topic, TopicState } from '../types';
import type { Row } from '../watch/frameChecker';
import type { TopicUpdate } from '../watch/updates';
import { EntityView } from './entityView';

type Changed<T> = [key: string, entity: T | undefined];

/** A topic in a page: decodes each row once and keeps unchanged entities. */
export class PageTopic<T> {
  readonly listeners = new Set<(state: TopicState<T>) => void>();
  state: TopicState<T>;
  private readonly entities = new Map<string, T>();
  private readonly versions = new Map<string, bigint>();
  private readonly index?: EntityIndex<T>;
  private incarnation = '';
  private pending: TopicUpdate[] = [];

  constructor(readonly topic: Topic<T>) {
    this.index = topic.index?.();
    this.state = {
      phase: 'loading',
      entities: new EntityView(this.entities),
      rev: 0n,
      since: Date.now(),
      index: this.index,
    };
  }

  /** Whether a snapshot was received and not dropped since. */
  get isKnown(): boolean {
    return this.incarnation !== '';
  }

  /** Keeps an update for the next `flush`. */
  push(update: TopicUpdate): void {
    // A whole state replaces all updates before it.
    if (update.whole) this.pending = [];
    this.pending.push(update);
  }

  /** Applies all updates as one change, and calls the listeners. */
  flush(): void {
    const updates = this.pending;
    this.pending = [];
    const last = updates.at(-1);
    if (!last) return;
    let unreadable: FoundryError | undefined;
    for (const update of updates) unreadable = this.apply(update) ?? unreadable;
    // For the server a topic that is resumed is loading; here, its old data is still shown.
    const isOld = last.phase === 'loading' && this.isKnown;
    this.show({
      phase: isOld ? 'stale' : last.phase,
      since: last.since,
      rev: last.rev,
      error: last.error ? new FoundryError(last.error) : unreadable,
    });
  }

  /** Drops all data: it was of another session. */
  forget(): void {
    this.push({ key: this.topic.key, phase: 'loading', since: Date.now(), rev: 0n, incarnation: '', whole: true, rows: [] });
    this.flush();
  }

  /** Marks the data as stale: nothing updates the topic any more. */
  markStale(): void {
    this.pending = [];
    const { phase, rev, error } = this.state;
    if (phase === 'live') this.show({ phase: 'stale', since: Date.now(), rev, error });
  }

  private show(state: Pick<TopicState<T>, 'phase' | 'since' | 'rev' | 'error'>): void {
    this.state = { ...state, entities: new EntityView(this.entities), index: this.index };
    for (const listener of [...this.listeners]) listener(this.state);
  }

  private apply({ whole, rows, incarnation }: TopicUpdate): FoundryError | undefined {
    let unreadable: FoundryError | undefined;
    if (whole && incarnation !== this.incarnation) this.versions.clear();
    if (whole) this.incarnation = incarnation;
    const known = whole ? new Map(this.entities) : this.entities;
    if (whole) this.entities.clear();
    const changes: Changed<T>[] = [];
    for (const row of rows) {
      try {
        const entity = this.read(row, known);
        if (entity === undefined) this.entities.delete(row.key);
        else this.entities.set(row.key, entity);
        changes.push([row.key, entity]);
      } catch (error) {
        unreadable = unreadableRow(row, error);
      }
    }
    if (whole) this.versions.clear();
    for (const { key, version, value } of rows) {
      if (value) this.versions.set(key, version);
      else this.versions.delete(key);
    }
    if (whole) this.index?.reset(this.entities);
    else if (changes.length > 0) this.index?.apply(changes);
    return unreadable;
  }

  private read({ key, version, value }: Row, known: ReadonlyMap<string, T>): T | undefined {
    if (!value) return undefined;
    const entity = this.versions.get(key) === version ? known.get(key) : undefined;
    return entity ?? this.topic.decode(value);
  }
}

function unreadableRow({ key }: Row, cause: unknown): FoundryError {
  const message = `this page cannot read ${key}: ${String(cause)}`;
  return new FoundryError({ code: Code.DataLoss, reason: 'ENTITY_UNREADABLE', message, nextAction: 'Reload the page.' });
}

import { vi } from 'vitest';
import { topics } from '../../src/topics';
import type { LogEvent, LogKind } from '../../src/types';
import { PageTopic } from '../../src/page/pageTopic';
import { systemEnv } from '../../src/watch/env';
import { SubscriptionManager, type Tab } from '../../src/watch/manager';
import type { ConnectionUpdate, TopicUpdate } from '../../src/watch/updates';
import type { TaskItem } from '../../src/gen/foundry/task/v1/task_pb';
import { FakeEdge } from './fakeEdge';

/** A tab that shows what it holds. */
export class TestTab {
  readonly shown = new Map<string, PageTopic<TaskItem>>();
  readonly dropped: string[] = [];
  readonly refused: string[] = [];
  readonly log: LogEvent[] = [];
  /** Called for every change after it is shown. */
  flushed?: (update: TopicUpdate) => void;
  connection?: ConnectionUpdate;
  /** Every phase the connection went through. */
  readonly phases: string[] = [];
  readonly tab: Tab;

  constructor(readonly manager: SubscriptionManager) {
    this.tab = manager.join({
      topic: (update) => {
        const topic = [...this.shown.values()].find((shown) => shown.topic.key === update.key);
        topic?.push(update);
        topic?.flush();
        this.flushed?.(update);
      },
      dropped: (key) => this.dropped.push(key),
      connection: (state) => {
        if (this.phases.at(-1) !== state.phase) this.phases.push(state.phase);
        this.connection = state;
      },
      refused: (key) => this.refused.push(key),
      log: (events) => this.log.push(...events),
    });
  }

  hold(name: string): void {
    const topic = topics.task(name);
    if (!this.shown.has(name)) this.shown.set(name, new PageTopic(topic));
    this.tab.hold(topic, this.shown.get(name)?.isKnown ?? false);
  }

  release(name: string): void {
    this.tab.release(topics.task(name).key, 'a test says so');
  }

  phase(name: string): string | undefined {
    return this.shown.get(name)?.state.phase;
  }

  titles(name: string): Record<string, string> {
    const entities = this.shown.get(name)?.state.entities ?? new Map<string, TaskItem>();
    const titles = [...entities].map(([key, { item }]) => [key, item.case === 'task' ? item.value.title : '?']);
    return Object.fromEntries(titles.sort()) as Record<string, string>;
  }

  count(what: LogKind): number {
    return this.log.filter((event) => event.what === what).length;
  }
}

/** An edge, the subscriptions of a browser, and a way to advance the time. */
export function browser(sessionKey: string | null = 'key', random: () => number = () => 0.5) {
  const edge = new FakeEdge();
  const manager = new SubscriptionManager(edge, { ...systemEnv, random });
  if (sessionKey !== null) manager.useSession(sessionKey);
  return { edge, manager, tab: new TestTab(manager), newTab: () => new TestTab(manager) };
}

/** Advances the time. */
export async function pass(ms = 0): Promise<void> {
  await vi.advanceTimersByTimeAsync(ms);
}

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { topics } from '../../src/topics';
import { systemEnv } from '../../src/watch/env';
import { SubscriptionManager } from '../../src/watch/manager';
import { Host } from '../../src/worker/host';
import { localPorts, type FromPage, type ToPage } from '../../src/worker/protocol';
import { pass } from '../support/browser';
import { FakeEdge } from '../support/fakeEdge';
import { FakeLocks } from '../support/fakeWorkers';

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

function world() {
  const edge = new FakeEdge();
  const locks = new FakeLocks();
  let managers = 0;
  const begin = () => {
    managers += 1;
    return new SubscriptionManager(edge, systemEnv);
  };
  const host = new Host(begin, locks as unknown as LockManager);
  const open = () => {
    const [page, port] = localPorts();
    const heard: ToPage[] = [];
    page.onmessage = ({ data }) => heard.push(structuredClone(data));
    host.connect(port);
    const say = (message: FromPage) => page.postMessage(message);
    say({ kind: 'hello', baseUrl: 'https://foundry.example', sessionKey: 'key', isOnline: true });
    const hold = () => {
      const { key, method, request, kind } = topics.task('a');
      say({ kind: 'hold', spec: { key, method, request, kind }, isKnown: false });
    };
    return { say, hold, heard };
  };
  return { edge, locks, open, managers: () => managers };
}

describe('the worker', () => {
  it('serves all pages from one set of subscriptions, by messages that can be cloned', async () => {
    const { edge, open, managers } = world();
    edge.commit('a', 'task/1', 'one');
    const pages = [open(), open(), open()];
    for (const page of pages) page.hold();
    await pass(50);
    expect(managers()).toBe(1);
    expect(edge.streams.flatMap((stream) => stream.asked)).toEqual(['a']);
    for (const { heard } of pages) {
      expect(heard[0]).toEqual({ kind: 'welcome' });
      expect(heard.some((message) => message.kind === 'topic' && message.update.phase === 'live')).toBe(true);
    }
  });

  it('never tells the first page of a session that nobody is signed in', async () => {
    const { open } = world();
    const { heard } = open();
    await pass(50);
    const phases = heard.flatMap((message) => (message.kind === 'connection' ? [message.state.phase] : []));
    expect(phases).not.toContain('signed-out');
    expect(phases.length).toBeGreaterThan(0);
  });

  it('lets go of what a page looked at when its lock comes free without a good-bye', async () => {
    const { edge, locks, open } = world();
    let die = () => {};
    void locks.request('foundry-tab-1', () => new Promise<void>((resolve) => (die = resolve)));
    const page = open();
    page.say({ kind: 'lock', name: 'foundry-tab-1' });
    page.hold();
    await pass(60_000);
    expect(edge.live()).toHaveLength(1);
    die();
    await pass(29_000);
    expect(edge.live()).toHaveLength(1);
    await pass(1_500);
    expect(edge.live()).toHaveLength(0);
  });

  it('does nothing for a page before its hello and after its good-bye', async () => {
    const { edge, open } = world();
    const page = open();
    await pass(0);
    page.say({ kind: 'bye' });
    page.hold();
    await pass(1_000);
    expect(edge.streams).toHaveLength(0);
  });
});

// @vitest-environment happy-dom
import { Code, ConnectError } from '@connectrpc/connect';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Foundry } from '../../src/foundry';
import type { SessionKeyStore } from '../../src/sessionKey';
import { topics } from '../../src/topics';
import { pass } from '../support/browser';
import { FakeEdge } from '../support/fakeEdge';
import { FakeWorkers } from '../support/fakeWorkers';

const PERIOD = 50;
const TOPIC = topics.task('a');
let edge: FakeEdge;
let workers: FakeWorkers;
const clients: Foundry[] = [];

beforeEach(() => {
  vi.useFakeTimers();
  edge = new FakeEdge();
  workers = new FakeWorkers(edge);
  vi.stubGlobal('navigator', { onLine: true, locks: workers.locks });
});
afterEach(() => {
  for (const client of clients.splice(0)) client.dispose();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

/** The key of an origin in one tab, which learns of changes by other tabs when a test calls `hear`. */
class TabKeys implements SessionKeyStore {
  hear = () => {};
  constructor(private key?: string) {}
  get = () => this.key;
  set(key: string | undefined): void {
    this.key = key;
  }
  subscribe(listener: () => void): () => void {
    this.hear = listener;
    return () => {};
  }
}

/** A tab that shares its worker with all others. */
function tab(sessionKey = new TabKeys('key')): Foundry {
  const client = new Foundry({
    baseUrl: 'https://foundry.example',
    sessionKey,
    worker: 'shared',
    createWorker: () => workers.join(),
    watches: edge,
  });
  clients.push(client);
  return client;
}

const listen = (client: Foundry) => client.subscribe(TOPIC, () => {});
const shown = (client: Foundry) => [...(client.topicState(TOPIC)?.entities.keys() ?? [])].sort();
const phase = (client: Foundry) => client.topicState(TOPIC)?.phase;

describe('a tab among others', () => {
  it('shows everything of a new session although it hears of it after that was loaded for another tab', async () => {
    edge.commit('a', 'task/1', 'one');
    const late = new TabKeys('key');
    const client = tab(late);
    listen(client);
    await pass(PERIOD);
    tab(new TabKeys('another'));
    await pass(PERIOD);
    late.set('another');
    late.hear();
    expect(shown(client)).toEqual([]);
    await pass(PERIOD);
    edge.commit('a', 'task/2', 'two');
    await pass(PERIOD);
    expect(phase(client)).toBe('live');
    expect(shown(client)).toEqual(['task/1', 'task/2']);
  });

  it('keeps the key of a session that began while the word of the refusal of the one before was on the way', async () => {
    const keys = new TabKeys('key');
    const client = tab(keys);
    listen(client);
    await pass(PERIOD);
    workers.holdBack();
    edge.refusal = new ConnectError('revoked', Code.Unauthenticated);
    edge.cut();
    await pass(500);
    edge.refusal = undefined;
    keys.set('another');
    keys.hear();
    workers.letGo();
    await pass(PERIOD);
    expect(keys.get()).toBe('another');
    expect(phase(client)).toBe('live');
    expect(client.connection.get().phase).toBe('open');
  });

  it('shows everything of a topic that was let go of while the word of its drop was on the way', async () => {
    edge.commit('a', 'task/1', 'one');
    const client = tab();
    listen(client)();
    await pass(PERIOD);
    workers.holdBack();
    await pass(30_000);
    expect(edge.live()).toHaveLength(0);
    listen(client)();
    workers.letGo();
    await pass(PERIOD);
    listen(client);
    await pass(PERIOD);
    expect(phase(client)).toBe('live');
    expect(shown(client)).toEqual(['task/1']);
  });
});

describe('a shared worker that dies with the tab it ran in', () => {
  it('is replaced by another one for all tabs, which go on from there', async () => {
    edge.commit('a', 'task/1', 'one');
    const tabs = [tab(), tab()];
    tabs.forEach(listen);
    await pass(PERIOD);
    workers.crash();
    edge.commit('a', 'task/1', 'two');
    edge.commit('a', 'task/2', 'three');
    await pass(PERIOD);
    expect(workers.made).toBe(2);
    expect(edge.live()).toHaveLength(1);
    for (const client of tabs) {
      expect(phase(client)).toBe('live');
      expect(shown(client)).toEqual(['task/1', 'task/2']);
      expect(client.connection.get().phase).toBe('open');
      expect(
        client.log
          .get()
          .map(({ detail }) => detail)
          .join(),
      ).toContain('worker');
    }
  });

  it('leaves nothing that is shown as live', async () => {
    const client = tab();
    listen(client);
    await pass(PERIOD);
    edge.refusal = new ConnectError('down', Code.Unavailable);
    workers.crash();
    workers.holdBack();
    await pass(PERIOD);
    expect(phase(client)).toBe('stale');
    expect(client.connection.get().phase).toBe('reconnecting');
  });

  it('is done without when it cannot be replaced', async () => {
    const client = tab();
    listen(client);
    await pass(PERIOD);
    workers.holdBack();
    workers.crash();
    edge.commit('a', 'task/1', 'one');
    await pass(10_100);
    expect(phase(client)).toBe('live');
    expect(shown(client)).toEqual(['task/1']);
    expect(client.connection.get().phase).toBe('open');
  });

  it('is replaced too when it died while the page was kept for going back', async () => {
    const client = tab();
    listen(client);
    await pass(PERIOD);
    window.dispatchEvent(new Event('pagehide'));
    workers.crash();
    await pass(PERIOD);
    expect(workers.made).toBe(1);
    window.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }));
    await pass(PERIOD);
    expect(workers.made).toBe(2);
    expect(phase(client)).toBe('live');
  });

  it('takes no notice of a tab that went on without it', async () => {
    workers.holdBack();
    const client = tab();
    listen(client);
    await pass(10_100);
    expect(phase(client)).toBe('live');
    workers.letGo();
    await pass(31_000);
    expect(edge.live()).toHaveLength(1);
  });
});

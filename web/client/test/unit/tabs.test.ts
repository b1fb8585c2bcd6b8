// @vitest-environment happy-dom
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

/** The key of an origin as one tab sees it: it hears of a change by others when a test says so. */
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

// @vitest-environment happy-dom
import { Code, ConnectError } from '@connectrpc/connect';
import { act, cleanup, render } from '@testing-library/react';
import { StrictMode } from 'react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Foundry } from '../../src/foundry';
import { FoundryProvider, useConnection, useEventLog, useTopic } from '../../src/react';
import { LocalSessionKeyStore, MemorySessionKeyStore } from '../../src/sessionKey';
import { topics } from '../../src/topics';
import { FakeEdge } from '../support/fakeEdge';

const PERIOD = 50;
let edge: FakeEdge;
const clients: Foundry[] = [];

beforeEach(() => {
  vi.useFakeTimers();
  edge = new FakeEdge();
});
afterEach(() => {
  cleanup();
  for (const client of clients.splice(0)) client.dispose();
  localStorage.clear();
  setHidden(false);
  vi.useRealTimers();
});

function foundry(options: ConstructorParameters<typeof Foundry>[0] = {}): Foundry {
  const client = new Foundry({
    baseUrl: 'https://foundry.example',
    sessionKey: new MemorySessionKeyStore('key'),
    worker: 'page',
    watches: edge,
    ...options,
  });
  clients.push(client);
  return client;
}

async function pass(ms = PERIOD): Promise<void> {
  await act(async () => vi.advanceTimersByTimeAsync(ms));
}

function setHidden(hidden: boolean): void {
  Object.defineProperty(document, 'hidden', { configurable: true, value: hidden });
  document.dispatchEvent(new Event('visibilitychange'));
}

let renders = 0;
function Titles({ name }: { name?: string }) {
  const state = useTopic(name === undefined ? undefined : topics.task(name));
  renders += 1;
  const titles = [...(state?.entities.values() ?? [])].map(({ item }) => (item.case === 'task' ? item.value.title : '?'));
  return <p>{`${state?.phase ?? 'nothing'}: ${titles.join(', ')}`}</p>;
}

describe('useTopic', () => {
  it('shows loading, then the entities, then each change', async () => {
    edge.commit('a', 'task/1', 'one');
    const { container } = render(
      <StrictMode>
        <FoundryProvider client={foundry()}>
          <Titles name="a" />
        </FoundryProvider>
      </StrictMode>,
    );
    expect(container.textContent).toBe('loading: ');
    await pass();
    expect(container.textContent).toBe('live: one');
    edge.commit('a', 'task/1', 'two');
    await pass();
    expect(container.textContent).toBe('live: two');
    expect(edge.streams.flatMap((stream) => stream.asked)).toEqual(['a']);
  });

  it('watches nothing without a topic', async () => {
    const { container } = render(
      <FoundryProvider client={foundry()}>
        <Titles />
      </FoundryProvider>,
    );
    await pass();
    expect(container.textContent).toBe('nothing: ');
    expect(edge.streams).toHaveLength(0);
  });

  it('renders once per frame, whatever the number of changes', async () => {
    render(
      <FoundryProvider client={foundry()}>
        <Titles name="a" />
      </FoundryProvider>,
    );
    await pass();
    renders = 0;
    for (let i = 0; i < 100; i += 1) {
      for (let j = 0; j < 5; j += 1) edge.commit('a', `task/${j}`, `title ${i}`);
      await pass(10);
    }
    await pass();
    expect(renders).toBeGreaterThan(10);
    expect(renders).toBeLessThan(80);
  });

  it('takes a topic up again within the grace without loading', async () => {
    edge.commit('a', 'task/1', 'one');
    const client = foundry();
    const page = (name?: string) => (
      <FoundryProvider client={client}>
        <Titles name={name} />
      </FoundryProvider>
    );
    const { container, rerender } = render(page('a'));
    await pass();
    rerender(page());
    await pass(20_000);
    edge.commit('a', 'task/1', 'two');
    await pass();
    rerender(page('a'));
    expect(container.textContent).toBe('live: two');
    rerender(page());
    await pass(31_000);
    expect(edge.live()).toHaveLength(0);
    expect(client.topicState(topics.task('a'))).toBeUndefined();
  });

  it('gives the connection and the log', async () => {
    function Line() {
      return (
        <p>{`${useConnection().phase} ${useEventLog()
          .map(({ what }) => what)
          .join(' ')}`}</p>
      );
    }
    const { container } = render(
      <FoundryProvider client={foundry()}>
        <Titles name="a" />
        <Line />
      </FoundryProvider>,
    );
    await pass();
    expect(container.textContent).toBe('live: open auth subscribed opened snapshot');
  });
});

describe('a page', () => {
  const listen = (client: Foundry, name = 'a') => client.subscribe(topics.task(name), () => {});
  const phase = (client: Foundry, name = 'a') => client.topicState(topics.task(name))?.phase;

  it('lets go of its topics when hidden for 30 s, and takes them back when shown', async () => {
    edge.commit('a', 'task/1', 'one');
    const client = foundry();
    listen(client);
    await pass();
    setHidden(true);
    await pass(29_000);
    setHidden(false);
    await pass(31_000);
    expect(phase(client)).toBe('live');
    setHidden(true);
    await pass(61_000);
    expect(edge.live()).toHaveLength(0);
    expect(phase(client)).toBe('stale');
    const before = client.topicState(topics.task('a'))?.entities.get('task/1');
    expect(before).toBeDefined();
    setHidden(false);
    await pass();
    expect(phase(client)).toBe('live');
    expect(client.topicState(topics.task('a'))?.entities.get('task/1')).toBe(before);
    expect(client.log.get().map(({ what }) => what)).toEqual(expect.arrayContaining(['hidden', 'released', 'dropped', 'visible']));
  });

  it('shows nothing of another session after it was hidden while that one ended', async () => {
    edge.commit('a', 'task/1', 'one');
    const sessionKey = new MemorySessionKeyStore('key');
    const client = foundry({ sessionKey });
    listen(client);
    await pass();
    setHidden(true);
    await pass(61_000);
    expect(client.topicState(topics.task('a'))?.entities.size).toBe(1);
    sessionKey.set('another');
    expect(client.topicState(topics.task('a'))?.entities.size).toBe(0);
    expect(phase(client)).toBe('loading');
  });

  it('says good-bye when it is left and begins anew when the browser brings it back', async () => {
    const client = foundry();
    listen(client);
    await pass();
    window.dispatchEvent(new Event('pagehide'));
    await pass(31_000);
    expect(edge.live()).toHaveLength(0);
    window.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }));
    await pass();
    expect(edge.live()).toHaveLength(1);
    expect(phase(client)).toBe('live');
  });

  it('shows nothing of a former session when the browser brings it back after another person signed in', async () => {
    edge.commit('a', 'task/1', 'one');
    let key = 'key';
    // A page that is away gets no storage events.
    const sessionKey = { get: () => key, set: () => {}, subscribe: () => () => {} };
    const client = foundry({ sessionKey });
    listen(client);
    await pass();
    expect(client.topicState(topics.task('a'))?.entities.size).toBe(1);
    window.dispatchEvent(new Event('pagehide'));
    key = 'another';
    window.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }));
    expect(client.topicState(topics.task('a'))?.entities.size).toBe(0);
  });

  it('rests while the browser is offline', async () => {
    const client = foundry();
    listen(client);
    await pass();
    window.dispatchEvent(new Event('offline'));
    await pass(10_000);
    expect(client.connection.get().phase).toBe('offline');
    window.dispatchEvent(new Event('online'));
    await pass();
    expect(client.connection.get().phase).toBe('open');
  });

  it('needs no network for a gateway on the same machine', async () => {
    const client = foundry({ baseUrl: 'http://127.0.0.1:7100' });
    listen(client);
    await pass();
    window.dispatchEvent(new Event('offline'));
    await pass();
    expect(client.connection.get().phase).toBe('open');
  });

  it('is signed out when the server refuses its session, and forgets the key', async () => {
    const sessionKey = new LocalSessionKeyStore();
    sessionKey.set('key');
    const client = foundry({ sessionKey });
    listen(client);
    await pass();
    edge.refusal = new ConnectError('revoked', Code.Unauthenticated);
    edge.cut(edge.refusal);
    await pass(300);
    expect(client.connection.get().phase).toBe('signed-out');
    expect(sessionKey.get()).toBeUndefined();
    expect(client.connection.get().error?.code).toBe(Code.Unauthenticated);
  });

  it('is signed out and in by other tabs of its origin', async () => {
    const sessionKey = new LocalSessionKeyStore();
    sessionKey.set('key');
    const client = foundry({ sessionKey });
    listen(client);
    await pass();
    localStorage.removeItem('foundry-session-key');
    window.dispatchEvent(Object.assign(new Event('storage'), { key: 'foundry-session-key' }));
    await pass();
    expect(client.connection.get().phase).toBe('signed-out');
    expect(edge.live()).toHaveLength(0);
    localStorage.setItem('foundry-session-key', 'another');
    window.dispatchEvent(Object.assign(new Event('storage'), { key: 'foundry-session-key' }));
    await pass();
    expect(client.connection.get().phase).toBe('open');
    expect(edge.live()[0]?.call.sessionKey).toBe('another');
  });

  it('starts as signed out when it has no key', () => {
    expect(foundry({ sessionKey: new MemorySessionKeyStore() }).connection.get().phase).toBe('signed-out');
  });

  it('ends its stream when it is disposed of', async () => {
    const client = foundry();
    listen(client);
    await pass();
    client.dispose();
    await pass();
    expect(edge.live()).toHaveLength(0);
  });

  it('uses subscriptions of its own when the shared worker cannot be loaded', async () => {
    const port = { postMessage: vi.fn(), close: vi.fn(), onmessage: null };
    const worker = { port, onerror: null as (() => void) | null };
    const client = foundry({ worker: 'shared', createWorker: () => worker as unknown as SharedWorker });
    listen(client);
    await pass();
    expect(edge.streams).toHaveLength(0);
    worker.onerror?.();
    await pass();
    expect(phase(client)).toBe('live');
    expect(port.close).toHaveBeenCalled();
  });

  it.each([
    ['does not answer', () => ({ port: { postMessage() {}, close() {}, onmessage: null } }) as unknown as SharedWorker],
    [
      'is forbidden',
      () => {
        throw new Error('forbidden by settings');
      },
    ],
  ])('uses subscriptions of its own when the shared worker %s', async (_, createWorker) => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
    const client = foundry({ worker: 'shared', createWorker });
    listen(client);
    await pass(10_100);
    expect(phase(client)).toBe('live');
    await pass(30_000);
    expect(edge.streams).toHaveLength(1);
    warn.mockRestore();
  });
});

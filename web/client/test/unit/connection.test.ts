import { Code, ConnectError } from '@connectrpc/connect';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FoundryError } from '../../src/errors';
import { browser, pass } from '../support/browser';

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

/** A browser that shows one topic, live. */
async function live() {
  const all = browser();
  all.edge.commit('a', 'task/1', 'one');
  all.tab.hold('a');
  await pass(50);
  expect(all.tab.phase('a')).toBe('live');
  return all;
}

describe('the connection', () => {
  it('is not opened while nothing is watched, nor without a session', async () => {
    const { edge, tab, manager } = browser(null);
    tab.hold('a');
    await pass(60_000);
    expect(tab.connection?.phase).toBe('signed-out');
    expect(edge.streams).toHaveLength(0);
    manager.useSession('key');
    await pass(50);
    expect(tab.connection?.phase).toBe('open');
    expect(edge.streams[0]?.call.sessionKey).toBe('key');
  });

  it('opens one stream for all topics that a page begins with', async () => {
    const { edge, tab } = browser();
    for (const name of ['a', 'b', 'c']) tab.hold(name);
    await pass(100);
    expect(edge.streams.map((stream) => stream.asked)).toEqual([['a', 'b', 'c']]);
    expect(edge.modifies).toHaveLength(0);
  });

  it('resumes after one reconnect, with neither gap nor snapshot, when the network is severed', async () => {
    const { edge, tab } = await live();
    tab.hold('b');
    await pass(20);
    edge.refuseModify = () => new ConnectError('cut', Code.Unknown);
    tab.hold('c');
    edge.cut();
    edge.view('a').commit('task/2', 'meanwhile');
    await pass(0);
    expect(tab.phase('a')).toBe('stale');
    expect(tab.connection).toMatchObject({ phase: 'reconnecting', attempt: 1 });
    await pass(10_000);
    expect(edge.streams).toHaveLength(2);
    expect(tab.count('reconnect')).toBe(1);
    expect(tab.titles('a')).toEqual(edge.view('a').shown());
    expect(tab.count('resumed')).toBe(2);
    expect(tab.phases).toEqual(['closed', 'connecting', 'open', 'reconnecting', 'open']);
  });

  it('waits longer after each failure, up to 30 s, and begins anew when caught up', async () => {
    const { edge, tab } = await live();
    edge.refusal = new ConnectError('down', Code.Unavailable);
    edge.cut();
    const waits: number[] = [];
    for (let i = 0; i < 9; i += 1) {
      await pass(0);
      const { retryAt = 0 } = tab.connection ?? {};
      waits.push(retryAt - Date.now());
      await pass(retryAt - Date.now() + 10);
    }
    expect(waits).toEqual([125, 250, 500, 1000, 2000, 4000, 8000, 15000, 15000]);
    edge.refusal = undefined;
    await pass(15_010);
    expect(tab.phase('a')).toBe('live');
    edge.cut();
    await pass(0);
    expect((tab.connection?.retryAt ?? 0) - Date.now()).toBe(125);
  });

  it('is opened anew after two and a half heartbeats of silence', async () => {
    const { edge } = await live();
    edge.heartbeatMs = 0;
    edge.cut();
    await pass(1_000);
    expect(edge.streams).toHaveLength(2);
    await pass(36_000);
    expect(edge.streams).toHaveLength(2);
    await pass(2_000);
    expect(edge.streams).toHaveLength(3);
  });

  it('is opened anew for silence although the clock was set back by an hour', async () => {
    const { edge } = await live();
    edge.live()[0]!.isFrozen = true;
    vi.setSystemTime(Date.now() - 3_600_000);
    await pass(80_000);
    expect(edge.streams).toHaveLength(2);
  });

  it('stays open over hours of nothing but heartbeats', async () => {
    const { edge, tab } = await live();
    await pass(4 * 3_600_000);
    expect(edge.streams).toHaveLength(1);
    expect(edge.modifies).toHaveLength(0);
    expect(tab.phase('a')).toBe('live');
  });

  it('is broken by a stream that ends well without a word of drain', async () => {
    const { edge, tab } = await live();
    edge.live()[0]?.end();
    await pass(0);
    expect(tab.connection?.phase).toBe('reconnecting');
    await pass(500);
    expect(tab.phase('a')).toBe('live');
  });

  it('is opened anew when a frame of the stream was lost', async () => {
    const { edge, tab } = await live();
    edge.live()[0]?.skip();
    edge.commit('a', 'task/2', 'two');
    await pass(0);
    expect(tab.titles('a')).toEqual({ 'task/1': 'one' });
    await pass(500);
    expect(edge.streams).toHaveLength(2);
    expect(tab.titles('a')).toEqual(edge.view('a').shown());
    expect(tab.count('snapshot')).toBe(1);
  });

  it('is signed out by UNAUTHENTICATED at an opening: nothing is shown or tried until there is another session', async () => {
    const { edge, tab, manager } = await live();
    edge.refusal = new ConnectError('revoked', Code.Unauthenticated);
    edge.cut(edge.refusal);
    await pass(260);
    expect(tab.connection).toMatchObject({ phase: 'signed-out', error: { code: Code.Unauthenticated } });
    expect(tab.titles('a')).toEqual({});
    expect(tab.refused).toEqual(['key']);
    await pass(600_000);
    expect(edge.streams).toHaveLength(2);
    edge.refusal = undefined;
    manager.useSession('another');
    await pass(50);
    expect(tab.phase('a')).toBe('live');
    expect(tab.count('snapshot')).toBe(2);
    expect(edge.streams[2]?.call.sessionKey).toBe('another');
  });

  it('outlives UNAUTHENTICATED at the end of a stream when the session is still good for the next one', async () => {
    const { edge, tab } = await live();
    edge.cut(new ConnectError('the token of the stream has expired', Code.Unauthenticated));
    await pass(0);
    expect(tab.titles('a')).toEqual({ 'task/1': 'one' });
    expect(tab.phase('a')).toBe('stale');
    await pass(500);
    expect(tab.refused).toEqual([]);
    expect(tab.phase('a')).toBe('live');
    expect(tab.phases).not.toContain('signed-out');
    expect(tab.count('snapshot')).toBe(1);
  });

  it('waits longer each time when streams open and are then refused before anything is caught up', async () => {
    const { edge, tab } = await live();
    edge.isSlow = true;
    for (let i = 0; i < 200; i += 1) {
      edge.cut(new ConnectError('expired', Code.Unauthenticated));
      await pass(100);
    }
    expect(tab.refused).toEqual([]);
    expect(edge.streams.length).toBeLessThan(12);
  });

  it('is signed out by a call that was refused, unless its key is an old one', async () => {
    const { tab, manager } = await live();
    const error = new FoundryError({ code: Code.Unauthenticated, message: 'revoked' });
    manager.doubtSession('an older key', error);
    expect(tab.connection?.phase).toBe('open');
    manager.doubtSession('key', error);
    expect(tab.connection?.phase).toBe('signed-out');
    expect(tab.titles('a')).toEqual({});
    expect(tab.refused).toEqual(['key']);
  });

  it('begins with nothing of the session before when another user signs in', async () => {
    const { edge, tab, manager } = await live();
    manager.useSession('other');
    expect(tab.titles('a')).toEqual({});
    expect(tab.phase('a')).toBe('loading');
    await pass(50);
    expect(tab.count('snapshot')).toBe(2);
    expect(edge.live()).toHaveLength(1);
  });

  it('rests while the network is gone, and is opened at once when it is back', async () => {
    const { edge, tab, manager } = await live();
    manager.network(false);
    expect(tab.connection?.phase).toBe('offline');
    expect(tab.phase('a')).toBe('stale');
    await pass(600_000);
    expect(edge.streams).toHaveLength(1);
    manager.network(true);
    await pass(20);
    expect(edge.streams).toHaveLength(2);
    expect(tab.phase('a')).toBe('live');
    expect(tab.count('snapshot')).toBe(1);
  });

  it('is not tried again by itself when the server refuses it for good, but is when asked', async () => {
    const { edge, tab, manager } = await live();
    edge.refusal = new ConnectError('old server', Code.Unimplemented);
    edge.cut();
    await pass(600_000);
    expect(edge.streams).toHaveLength(2);
    expect(tab.connection).toMatchObject({ phase: 'closed', error: { code: Code.Unimplemented } });
    edge.refusal = undefined;
    manager.reconnectNow();
    await pass(50);
    expect(tab.phase('a')).toBe('live');
  });

  it('is tried anew by the next who looks at something after the server refused it for good', async () => {
    const { edge, tab } = await live();
    edge.refusal = new ConnectError('nothing is here', Code.Unimplemented);
    edge.cut();
    await pass(1_000);
    expect(tab.connection).toMatchObject({ phase: 'closed', error: { code: Code.Unimplemented } });
    tab.release('a');
    await pass(31_000);
    edge.refusal = undefined;
    tab.hold('a');
    await pass(50);
    expect(tab.phase('a')).toBe('live');
  });

  it('waits as long as the server asks', async () => {
    const { edge, tab } = await live();
    edge.refusal = new FoundryError({ code: Code.ResourceExhausted, message: 'busy', retryAfterMs: 20_000 });
    edge.cut();
    await pass(150);
    expect(tab.connection).toMatchObject({ phase: 'reconnecting', retryAt: Date.now() - 15 + 20_000 });
    await pass(19_000);
    expect(edge.streams).toHaveLength(2);
  });

  it('asks again for ended topics, and at once, when a person says so', async () => {
    const { edge, tab, manager } = await live();
    edge.live()[0]?.endSub('a', Code.NotFound);
    edge.refusal = new ConnectError('down', Code.Unavailable);
    edge.cut();
    await pass(5_000);
    edge.refusal = undefined;
    manager.reconnectNow();
    await pass(20);
    expect(tab.phase('a')).toBe('live');
  });
});

describe('a drain', () => {
  it('is survived without a moment of staleness: the next stream is open before the old one ends', async () => {
    const { edge, tab } = await live();
    const phases: string[] = [];
    tab.shown.get('a')?.listeners.add((state) => phases.push(state.phase));
    edge.live()[0]?.drain(1_000);
    await pass(500);
    edge.commit('a', 'task/2', 'on the old one');
    expect(edge.streams).toHaveLength(1);
    await pass(501);
    expect(edge.streams).toHaveLength(2);
    await pass(20);
    expect(edge.live().map((stream) => stream.id)).toEqual(['stream-2']);
    edge.commit('a', 'task/3', 'on the new one');
    await pass(20);
    expect(tab.titles('a')).toEqual(edge.view('a').shown());
    expect(new Set(phases)).toEqual(new Set(['live']));
    expect(tab.count('snapshot')).toBe(1);
    expect(tab.count('reconnect')).toBe(0);
    expect(tab.connection?.phase).toBe('open');
  });

  it('shows no change twice and goes never back while two streams are open', async () => {
    const { edge, tab } = await live();
    const revs: bigint[] = [];
    tab.shown.get('a')?.listeners.add((state) => revs.push(state.rev));
    edge.isSlow = true;
    edge.live()[0]?.drain(0);
    await pass(10);
    for (let i = 0; i < 5; i += 1) edge.commit('a', 'task/1', `change ${i}`);
    await pass(10);
    expect(edge.live()).toHaveLength(2);
    edge.live()[1]?.answer();
    edge.commit('a', 'task/2', 'on both');
    await pass(10);
    expect(edge.live()).toHaveLength(1);
    expect(revs).toHaveLength(6);
    expect(revs).toEqual([...revs].sort());
    expect(tab.titles('a')).toEqual(edge.view('a').shown());
  });

  it('does not go back to a snapshot of the next stream that is older than what the old one has brought', async () => {
    const { edge, tab } = await live();
    edge.isSlow = true;
    tab.hold('b');
    await pass(20);
    const [old] = edge.live();
    old?.drain(0);
    await pass(20);
    const next = edge.live()[1];
    if (next) next.isFrozen = true;
    next?.answer();
    edge.commit('b', 'task/1', 'one');
    edge.commit('b', 'task/1', 'two');
    old?.answer();
    await pass(10);
    expect(tab.titles('b')).toEqual({ 'task/1': 'two' });
    const titles: string[] = [];
    tab.shown.get('b')?.listeners.add(({ entities }) => titles.push([...entities.keys()].join() || 'nothing'));
    next?.thaw();
    await pass(20);
    expect(titles).not.toContain('nothing');
    expect(edge.live()).toEqual([next]);
    edge.commit('b', 'task/1', 'three');
    await pass(10);
    expect(tab.titles('b')).toEqual({ 'task/1': 'three' });
  });

  it('keeps the old stream until its end when the next one cannot be opened', async () => {
    const { edge, tab } = await live();
    edge.live()[0]?.drain(0);
    edge.refusal = new ConnectError('down', Code.Unavailable);
    await pass(5_000);
    expect(tab.connection?.phase).toBe('open');
    expect(tab.phase('a')).toBe('live');
    const tried = edge.streams.length;
    expect(tried).toBeGreaterThan(3);
    expect(tried).toBeLessThan(8);
    edge.refusal = undefined;
    await pass(5_000);
    expect(edge.live()).toHaveLength(1);
    expect(edge.live()[0]?.id).not.toBe('stream-1');
    expect(tab.count('reconnect')).toBe(0);
  });

  it('opens the next stream at once when the old one ends before its time', async () => {
    const { edge, tab } = await live();
    const old = edge.live()[0];
    old?.drain(3_000);
    await pass(10);
    old?.end();
    await pass(20);
    expect(edge.streams).toHaveLength(2);
    expect(tab.phase('a')).toBe('live');
  });

  it('carries what was asked for meanwhile over to the next stream', async () => {
    const { edge, tab } = await live();
    edge.live()[0]?.drain(100);
    await pass(50);
    tab.hold('b');
    await pass(500);
    expect(tab.phase('b')).toBe('live');
    expect(edge.live()).toHaveLength(1);
    expect(edge.live()[0]?.size).toBe(2);
  });
});

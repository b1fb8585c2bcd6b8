import { Code, ConnectError } from '@connectrpc/connect';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { browser, pass } from '../support/browser';

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

describe('a topic', () => {
  it('shows the snapshot, then what changes, and forgets what is deleted', async () => {
    const { edge, tab } = browser();
    for (let i = 0; i < 8; i += 1) edge.view('a').commit(`task/${i}`, `title ${i}`);
    tab.hold('a');
    await pass(20);
    expect(tab.phase('a')).toBe('live');
    expect(tab.titles('a')).toEqual(edge.view('a').shown());
    edge.commit('a', 'task/3', 'changed');
    edge.commit('a', 'task/4');
    await pass(20);
    expect(tab.titles('a')).toEqual(edge.view('a').shown());
    expect(Object.keys(tab.titles('a'))).toHaveLength(7);
  });

  it('shows the revision of a bookmark, although no row has changed', async () => {
    const { edge, tab } = browser();
    edge.commit('a', 'task/1', 'one');
    tab.hold('a');
    await pass(20);
    const view = edge.view('a');
    view.rev += 5n;
    edge.live()[0]?.watching('a')[0]?.bookmark(true);
    await pass(20);
    expect(tab.shown.get('a')?.state.rev).toBe(view.rev);
    expect(tab.titles('a')).toEqual({ 'task/1': 'one' });
  });

  it('keeps the identity of entities that did not change', async () => {
    const { edge, tab } = browser();
    edge.commit('a', 'task/1', 'one');
    edge.commit('a', 'task/2', 'two');
    tab.hold('a');
    await pass(20);
    const before = tab.shown.get('a')?.state.entities.get('task/1');
    edge.commit('a', 'task/2', 'new');
    edge.live()[0]?.watching('a')[0]?.reset();
    await pass(20);
    expect(tab.shown.get('a')?.state.entities.get('task/1')).toBe(before);
    expect(tab.titles('a')['task/2']).toBe('new');
  });

  it('shows nothing of a snapshot before its end, and keeps the old rows till then', async () => {
    const { edge, tab } = browser();
    edge.commit('a', 'task/1', 'old');
    tab.hold('a');
    await pass(20);
    const watch = edge.live()[0]?.watching('a')[0];
    edge.view('a').commit('task/1', 'new');
    watch?.snapshotBegin();
    await pass(20);
    expect(tab.titles('a')).toEqual({ 'task/1': 'old' });
    watch?.snapshotEnd();
    await pass(20);
    expect(tab.titles('a')).toEqual({ 'task/1': 'new' });
  });

  it('shows a chain of deltas only as a whole', async () => {
    const { edge, tab } = browser();
    tab.hold('a');
    await pass(20);
    const watch = edge.live()[0]?.watching('a')[0];
    const view = edge.view('a');
    const start = view.rev;
    view.commit('task/1', 'one');
    view.commit('task/2', 'two');
    const [first, second] = view.changes(start, true);
    watch?.delta(first ? [first] : [], start + 1n, true);
    await pass(20);
    expect(tab.titles('a')).toEqual({});
    watch?.delta(second ? [second] : [], start + 2n);
    await pass(20);
    expect(tab.titles('a')).toEqual(view.shown());
  });

  it('is loaded anew from a snapshot when the digest of one is wrong', async () => {
    const { edge, tab } = browser();
    edge.commit('a', 'task/1', 'one');
    edge.view('a').spoiledSnapshots = 1;
    tab.hold('a');
    await pass(50);
    expect(tab.count('digest-mismatch')).toBe(1);
    expect(tab.phase('a')).toBe('live');
    expect(tab.titles('a')).toEqual({ 'task/1': 'one' });
    expect(edge.streams).toHaveLength(1);
  });

  it('waits longer each time when its snapshots are wrong again and again', async () => {
    const { edge, tab } = browser();
    edge.view('a').spoiledSnapshots = 1_000;
    tab.hold('a');
    await pass(60_000);
    expect(tab.count('digest-mismatch')).toBeGreaterThan(5);
    expect(tab.count('digest-mismatch')).toBeLessThan(15);
    edge.view('a').spoiledSnapshots = 0;
    await pass(30_000);
    expect(tab.phase('a')).toBe('live');
  });

  it('goes on from its last position when a frame of it was lost', async () => {
    const { edge, tab } = browser();
    edge.commit('a', 'task/1', 'one');
    tab.hold('a');
    await pass(20);
    edge.live()[0]?.watching('a')[0]?.skip();
    edge.commit('a', 'task/1', 'two');
    await pass(50);
    expect(tab.count('gap')).toBe(1);
    expect(tab.count('snapshot')).toBe(1);
    expect(tab.count('resumed')).toBe(1);
    expect(tab.titles('a')).toEqual({ 'task/1': 'two' });
    expect(edge.streams).toHaveLength(1);
  });

  it('keeps its rows, shown as stale, from a reset to the end of the snapshot', async () => {
    const { edge, tab } = browser();
    edge.commit('a', 'task/1', 'one');
    tab.hold('a');
    await pass(20);
    edge.cut();
    edge.view('a').lose('second');
    await pass(0);
    expect(tab.phase('a')).toBe('stale');
    expect(tab.titles('a')).toEqual({ 'task/1': 'one' });
    await pass(500);
    expect(tab.count('reset')).toBe(1);
    expect(tab.phase('a')).toBe('live');
  });

  it('shows the rows of another view, or of another store, although their versions are the same', async () => {
    const { edge, tab } = browser();
    edge.commit('a', 'task/1', 'one');
    edge.commit('a', 'task/2', 'gone');
    tab.hold('a');
    await pass(20);
    edge.live()[0]?.watching('a')[0]?.changeView({ 'task/1': 'other' });
    await pass(20);
    expect(tab.count('snapshot')).toBe(2);
    expect(tab.titles('a')).toEqual({ 'task/1': 'other' });
  });

  it('backs off after three resets within a minute', async () => {
    const { edge, tab } = browser();
    tab.hold('a');
    await pass(20);
    for (let i = 0; i < 3; i += 1) {
      edge.live()[0]?.watching('a')[0]?.reset();
      await pass(10);
    }
    await pass(50);
    expect(edge.live()[0]?.size).toBe(0);
    await pass(14_000);
    expect(edge.live()[0]?.size).toBe(0);
    await pass(2_000);
    expect(edge.live()[0]?.size).toBe(1);
    expect(tab.phase('a')).toBe('live');
  });

  it.each([Code.NotFound, Code.PermissionDenied, Code.InvalidArgument, Code.Unimplemented])(
    'ends, without its rows, when the server refuses it with code %i, and the others go on',
    async (code) => {
      const { edge, tab } = browser();
      edge.commit('a', 'task/1', 'one');
      tab.hold('a');
      tab.hold('b');
      await pass(20);
      edge.live()[0]?.endSub('a', code);
      await pass(60_000);
      expect(tab.phase('a')).toBe('ended');
      expect(tab.shown.get('a')?.state.error?.code).toBe(code);
      expect(tab.titles('a')).toEqual({});
      expect(tab.phase('b')).toBe('live');
      expect(edge.streams).toHaveLength(1);
      expect(edge.modifies).toHaveLength(0);
    },
  );

  it('is asked for again, with backoff, when the server ends it for a passing reason', async () => {
    const { edge, tab } = browser();
    edge.commit('a', 'task/1', 'one');
    tab.hold('a');
    await pass(20);
    edge.live()[0]?.endSub('a', Code.Unavailable);
    await pass(0);
    expect(tab.phase('a')).toBe('stale');
    await pass(100);
    expect(edge.modifies).toHaveLength(0);
    await pass(100);
    expect(tab.phase('a')).toBe('live');
    expect(tab.count('snapshot')).toBe(1);
  });

  it('is live without the error of before, and waits as little as at first, once it was live in between', async () => {
    const { edge, tab } = browser();
    tab.hold('a');
    await pass(20);
    for (let i = 0; i < 8; i += 1) {
      edge.live()[0]?.endSub('a', Code.Unavailable);
      await pass(0);
      expect(tab.shown.get('a')?.state.error?.code).toBe(Code.Unavailable);
      await pass(200);
      expect(tab.phase('a')).toBe('live');
      expect(tab.shown.get('a')?.state.error).toBeUndefined();
    }
  });

  it('that has ended is asked for again when a page looks at it anew', async () => {
    const { edge, tab } = browser();
    edge.refusedViews.set('a', Code.NotFound);
    tab.hold('a');
    await pass(20);
    expect(tab.phase('a')).toBe('ended');
    edge.refusedViews.clear();
    tab.release('a');
    tab.hold('a');
    await pass(50);
    expect(tab.phase('a')).toBe('live');
  });
});

describe('the set of topics', () => {
  it('is shared by all tabs: one watch for one topic, told to each', async () => {
    const { edge, tab, newTab } = browser();
    edge.commit('a', 'task/1', 'one');
    tab.hold('a');
    await pass(20);
    const other = newTab();
    other.hold('a');
    await pass(20);
    edge.commit('a', 'task/2', 'two');
    await pass(20);
    expect(edge.streams.flatMap((stream) => stream.asked)).toEqual(['a']);
    expect(other.titles('a')).toEqual(edge.view('a').shown());
    expect(other.phase('a')).toBe('live');
  });

  it('is dropped 30 s after the last tab let go, and the stream with it', async () => {
    const { edge, tab, newTab } = browser();
    const other = newTab();
    tab.hold('a');
    other.hold('a');
    await pass(20);
    tab.release('a');
    await pass(60_000);
    expect(edge.live()).toHaveLength(1);
    expect(tab.dropped).toHaveLength(1);
    other.release('a');
    await pass(29_000);
    expect(edge.live()).toHaveLength(1);
    await pass(1_001);
    expect(edge.live()).toHaveLength(0);
    expect(tab.connection?.phase).toBe('closed');
    expect(tab.count('dropped')).toBe(1);
  });

  it('stays untouched when a tab lets go and takes it back within the grace', async () => {
    const { edge, tab } = browser();
    edge.commit('a', 'task/1', 'one');
    tab.hold('a');
    await pass(20);
    tab.release('a');
    await pass(29_000);
    edge.commit('a', 'task/1', 'two');
    tab.hold('a');
    await pass(60_000);
    expect(tab.titles('a')).toEqual({ 'task/1': 'two' });
    expect(edge.streams.flatMap((stream) => stream.asked)).toEqual(['a']);
    expect(edge.modifies).toHaveLength(0);
  });

  it('keeps no more than the newest 500 entries of its log', async () => {
    const { tab, newTab } = browser();
    for (let i = 0; i < 600; i += 1) tab.manager.visible(i % 2 === 0);
    expect(newTab().log).toHaveLength(500);
  });

  it('outlives a tab that is gone by 30 s, for it may be loading anew', async () => {
    const { edge, tab, newTab } = browser();
    edge.commit('a', 'task/1', 'one');
    tab.hold('a');
    await pass(20);
    tab.tab.leave('gone');
    await pass(5_000);
    const again = newTab();
    again.hold('a');
    await pass(0);
    expect(again.titles('a')).toEqual({ 'task/1': 'one' });
    expect(edge.streams.flatMap((stream) => stream.asked)).toEqual(['a']);
    again.tab.leave('gone too');
    await pass(30_001);
    expect(edge.live()).toHaveLength(0);
  });

  it('gives up what nobody looks at any more for what somebody looks at, when a stream can carry no more', async () => {
    const { edge, tab } = browser();
    tab.hold('kept');
    for (let i = 0; i < 400; i += 1) {
      tab.hold(`view ${i}`);
      await pass(20);
      tab.release(`view ${i}`);
    }
    tab.hold('last');
    await pass(20);
    expect(tab.phase('last')).toBe('live');
    expect(tab.phase('kept')).toBe('live');
    expect(edge.live()[0]?.size).toBe(256);
    expect(edge.streams).toHaveLength(1);
    await pass(31_000);
    expect(edge.live()[0]?.size).toBe(2);
  });

  it('changes in one call for what is asked within 10 ms, with contiguous versions, one call at a time', async () => {
    const { edge, tab } = browser();
    tab.hold('a');
    await pass(20);
    tab.hold('b');
    await pass(5);
    tab.hold('c');
    await pass(20);
    expect(edge.modifies.map((m) => [m.version, m.add?.length])).toEqual([[1n, 2]]);
    tab.release('b');
    await pass(30_020);
    expect(edge.modifies.map((m) => [m.version, m.add?.length, m.remove])).toEqual([
      [1n, 2, []],
      [2n, 0, [2]],
    ]);
    tab.hold('b');
    await pass(20);
    expect(edge.modifies.at(-1)?.add?.[0]?.subId).toBe(4);
  });

  it('is changed by a repeat of the same version when the answer was lost', async () => {
    const { edge, tab } = browser();
    tab.hold('a');
    await pass(20);
    let failures = 2;
    edge.refuseModify = () => (failures-- > 0 ? new ConnectError('cut', Code.Unknown) : undefined);
    tab.hold('b');
    await pass(1_000);
    expect(edge.modifies.map((m) => m.version)).toEqual([1n, 1n, 1n]);
    expect(tab.phase('b')).toBe('live');
    expect(edge.streams).toHaveLength(1);
  });

  it('is opened whole on a new stream when no answer to a change comes at all', async () => {
    const { edge, tab } = browser();
    tab.hold('a');
    await pass(20);
    edge.refuseModify = () => new ConnectError('cut', Code.Unknown);
    tab.hold('b');
    await pass(10_000);
    expect(edge.modifies.length).toBeLessThan(8);
    expect(edge.streams).toHaveLength(2);
    expect(tab.phase('b')).toBe('live');
  });

  it.each([Code.NotFound, Code.FailedPrecondition])(
    'is opened whole on a new stream when a change is refused with code %i',
    async (code) => {
      const { edge, tab } = browser();
      edge.commit('a', 'task/1', 'one');
      tab.hold('a');
      await pass(20);
      edge.refuseModify = () => new ConnectError('WATCH_STREAM_UNKNOWN', code);
      tab.hold('b');
      await pass(1_000);
      expect(edge.streams).toHaveLength(2);
      expect(edge.streams[1]?.asked).toEqual(['a', 'b']);
      expect(tab.phase('b')).toBe('live');
      expect(tab.count('snapshot')).toBe(2);
    },
  );
});

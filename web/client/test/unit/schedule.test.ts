import { Code, ConnectError } from '@connectrpc/connect';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { browser, pass, type TestTab } from '../support/browser';
import type { FakeEdge } from '../support/fakeEdge';

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

const VIEWS = ['a', 'b', 'c', 'd'];
const STEPS = 120;

/** Reproducible random numbers. */
function chance(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

type World = ReturnType<typeof browser> & { tabs: TestTab[]; random: () => number; pick<T>(from: readonly T[]): T | undefined };

/** Everything that may happen to a browser and its server. */
const EVENTS: ((world: World) => void)[] = [
  ({ edge, pick, random }) => edge.commit(pick(VIEWS) ?? 'a', `task/${Math.floor(random() * 12)}`, `title ${random()}`),
  ({ edge, pick, random }) => edge.commit(pick(VIEWS) ?? 'a', `task/${Math.floor(random() * 12)}`, `title ${random()}`),
  ({ edge, pick, random }) => edge.commit(pick(VIEWS) ?? 'a', `task/${Math.floor(random() * 12)}`),
  ({ tabs, pick }) => pick(tabs)?.hold(pick(VIEWS) ?? 'a'),
  ({ tabs, pick }) => pick(tabs)?.release(pick(VIEWS) ?? 'a'),
  ({ edge }) => edge.cut(),
  ({ edge, pick }) => pick(edge.live())?.end(),
  ({ edge, pick, random }) => pick(edge.live())?.drain(Math.floor(random() * 2_000)),
  ({ edge, pick }) => {
    // A slow change of streams: both are open for a while.
    edge.isSlow = true;
    pick(edge.live())?.drain(0);
  },
  ({ edge }) => {
    for (const stream of edge.live()) stream.answer();
  },
  ({ edge }) => {
    for (const stream of edge.live()) stream.answer();
  },
  ({ edge, pick }) => {
    const stream = pick(edge.live());
    if (stream) stream.isFrozen = true;
  },
  ({ edge }) => {
    for (const stream of edge.streams) stream.thaw();
  },
  ({ edge, pick }) => pick(edge.live())?.thaw(),
  ({ edge, pick }) => pick(edge.live())?.skip(),
  ({ edge, pick }) => pick(edge.live().flatMap((stream) => stream.watching(pick(VIEWS) ?? 'a')))?.skip(),
  ({ edge, pick }) => pick(edge.live().flatMap((stream) => stream.watching(pick(VIEWS) ?? 'a')))?.reset(),
  ({ edge, pick }) => pick(edge.live())?.endSub(pick(VIEWS) ?? 'a', Code.Unavailable),
  ({ edge, pick }) => (edge.view(pick(VIEWS) ?? 'a').spoiledSnapshots += 1),
  ({ edge, pick }) => {
    const view = edge.view(pick(VIEWS) ?? 'a');
    view.floor = view.rev;
  },
  ({ edge, random }) => {
    // A store is lost with its process: all watches are cut off.
    for (const view of edge.views.values()) view.lose(`store ${random()}`);
    edge.cut();
  },
  ({ edge }) => (edge.refusal = new ConnectError('down', Code.Unavailable)),
  ({ edge }) => (edge.refusal = undefined),
  ({ edge }) => (edge.refuseModify = () => new ConnectError('unknown stream', Code.NotFound)),
  ({ edge }) => (edge.refuseModify = () => new ConnectError('cut', Code.Unknown)),
  ({ edge }) => (edge.refuseModify = undefined),
  ({ edge }) => (edge.isSlow = true),
  ({ edge }) => {
    edge.isSlow = false;
    for (const stream of edge.live()) stream.answer();
  },
  ({ manager }) => manager.network(false),
  ({ manager }) => manager.network(true),
  ({ manager }) => manager.visible(true),
  ({ manager }) => manager.reconnectNow(),
  ({ manager, random }) => {
    if (random() < 0.2) manager.useSession(`key ${random()}`);
  },
];

async function live(seed: number): Promise<void> {
  const random = chance(seed);
  const base = browser('key', random);
  const pick = <T>(from: readonly T[]): T | undefined => from[Math.floor(random() * from.length)];
  const world: World = { ...base, tabs: [base.tab, base.newTab(), base.newTab()], random, pick };
  const complaints: string[] = [];
  for (const tab of world.tabs) watchOver(tab, world.edge, complaints);
  for (let step = 0; step < STEPS; step += 1) {
    pick(EVENTS)?.(world);
    await pass(Math.floor(random() ** 3 * 8_000));
  }
  await settle(world);
  expect(complaints).toEqual([]);
}

/** Checks that every shown state was one of the server's, and none is older than one shown before. */
function watchOver(tab: TestTab, edge: FakeEdge, complaints: string[]): void {
  const reached = new Map<string, bigint>();
  tab.flushed = ({ key, rev, incarnation, phase }) => {
    const name = VIEWS.find((view) => tab.shown.get(view)?.topic.key === key) ?? '';
    if (phase === 'loading' && rev === 0n) return void reached.clear();
    const shown = JSON.stringify(tab.titles(name));
    const was = edge.view(name).history.get(`${incarnation}@${rev}`);
    if (shown !== was) complaints.push(`${name} at ${rev}: ${shown} was never so, but ${was}`);
    const before = `${name} ${incarnation}`;
    if (rev < (reached.get(before) ?? 0n)) complaints.push(`${before} goes back to ${rev}`);
    reached.set(before, rev);
  };
}

/** Ends all faults and checks that everything shown is as the server has it. */
async function settle({ edge, manager, tabs }: World): Promise<void> {
  edge.refusal = edge.refuseModify = undefined;
  edge.isSlow = false;
  for (const stream of edge.streams) {
    stream.thaw();
    stream.answer();
  }
  for (const view of edge.views.values()) view.spoiledSnapshots = 0;
  manager.network(true);
  for (const tab of tabs) for (const name of VIEWS) tab.hold(name);
  await pass(120_000);
  for (const name of VIEWS) edge.commit(name, 'task/last', 'last');
  await pass(50);
  for (const tab of tabs) {
    for (const name of VIEWS) {
      expect(tab.titles(name), name).toEqual(edge.view(name).shown());
      expect(tab.phase(name), name).toBe('live');
    }
  }
  expect(edge.live()).toHaveLength(1);
  expect(edge.live()[0]?.size).toBe(VIEWS.length);
}

describe('whatever befalls a browser', () => {
  it.each(Array.from({ length: Number(process.env.SEEDS ?? 150) }, (_, seed) => seed))(
    'ends with the state of the server (seed %i)',
    async (seed) => {
      await live(seed);
    },
  );
});

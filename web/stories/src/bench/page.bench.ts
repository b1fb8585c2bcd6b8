/** How fast the page becomes usable, and how much it loads, next to the goals. Figures are printed, never a gate. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, test } from 'vitest';
import { Api } from '../api';
import { launch } from '../browser';
import { FAULT_BY_DEFAULT, Mesh } from '../mesh';
import { makeOrigin } from '@foundry/testing';
import { Faults, Maker } from '../screenshots/made';
import { coldLoad, partsOf, signedIn } from './firstScreen';
import { timeSummary } from './summary';

const LOADS = 7;
const TASKS = Number(process.env['BENCH_TASKS'] ?? '1000');
const AT_ONCE = 16;
const READS = 50;

let mesh: Mesh;
let browser: Browser;
let api: Api;
let faults: Faults;
let repositoryId: string;
let start: string;
let path: string;
const parent = mkdtempSync(join(tmpdir(), 'foundry-bench-'));

beforeAll(async () => {
  faults = new Faults(parent);
  // No task gets as far as an agent, so that only the page is measured.
  faults.hang('allocate');
  mesh = await Mesh.start(FAULT_BY_DEFAULT, faults.directory);
  api = await Api.signIn(mesh, 'alice');
  const maker = new Maker(api);
  repositoryId = await maker.repository(makeOrigin(mesh.dir), 'orchard');
  const { taskId } = await maker.task(repositoryId, 'The task that is looked at');
  start = `/o/${api.organizationId}`;
  path = `${start}/t/${taskId}`;
  browser = await launch();
});

afterAll(async () => {
  await browser?.close();
  faults?.release('allocate');
  await mesh?.dispose();
  rmSync(parent, { recursive: true, force: true });
});

function report(what: string, times: readonly number[], goal: string): void {
  const sorted = times.toSorted((a, b) => a - b);
  const [median, most] = [sorted[Math.floor(sorted.length / 2)] ?? 0, sorted.at(-1) ?? 0];
  const figures = [median, most].map((ms) => (ms < 100 ? ms.toFixed(1) : ms.toFixed(0)));
  console.log(`${what.padEnd(60)} median ${(figures[0] ?? '').padStart(6)} ms, max ${(figures[1] ?? '').padStart(6)} ms   ${goal}`);
}

async function loads(tasks: string): Promise<void> {
  const session = await signedIn(browser, mesh);
  for (const [what, at] of [
    ['start', start],
    ['task page', path],
  ] as const) {
    const times: number[] = [];
    for (let i = 0; i < LOADS; i += 1) times.push(await coldLoad(browser, session, mesh.url + at));
    report(`cold load of the ${what} until usable, ${tasks}, ${LOADS} times`, times, 'goal ≤ 1500 ms');
  }
}

async function sizes(what: string, at: string): Promise<void> {
  const parts = await partsOf(browser, mesh, await signedIn(browser, mesh), at);
  // The page waits for its fonts only for a moment, so they are reported separately.
  const fonts = parts.filter((it) => it.path.endsWith('.woff2'));
  const bytes = (of: typeof parts): number => of.reduce((sum, it) => sum + it.bytes, 0);
  const all = `${((bytes(parts) - bytes(fonts)) / 1000).toFixed(1)} kB in ${parts.length - fonts.length} files`;
  console.log(
    `${`first screen of the ${what}, gzip`.padEnd(60)} ${all}   goal ≤ 300 kB; beside it ${(bytes(fonts) / 1000).toFixed(1)} kB of fonts`,
  );
  for (const { path: name, bytes } of parts.toSorted((x, y) => y.bytes - x.bytes).slice(0, 8)) {
    console.log(`    ${(bytes / 1000).toFixed(1).padStart(6)} kB  ${name.slice(0, 60)}`);
  }
}

async function summaries(tasks: string): Promise<void> {
  const { times, bytes } = await timeSummary(mesh, api.organizationId, READS);
  report(`GetOrganizationSummary, ${tasks}, ${(bytes / 1000).toFixed(1)} kB`, times, 'goal ≤ 50 ms');
}

test('the first screen with one task', async () => {
  console.log('');
  await loads('1 task');
  await summaries('1 task');
  await sizes('start', start);
  await sizes('task page', path);
});

test(`the first screen with ${TASKS} tasks`, async () => {
  const maker = new Maker(api);
  let made = 1;
  const creates = async (): Promise<void> => {
    while (made < TASKS) {
      made += 1;
      await maker.task(repositoryId, `Task ${made}: look at the part of the orchard with this number and say what is there`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, creates));
  await loads(`${TASKS} tasks`);
  await summaries(`${TASKS} tasks`);
});

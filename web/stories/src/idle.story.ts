/** An idle page makes no requests, and restores a cut connection with one. */
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Complaints, elsewhere, launch, LOST_NETWORK, signIn } from './browser';
import { Mesh } from './mesh';
import { MeshProxy } from '@foundry/testing';
import { addRepository, createTask, openTask, send, shows } from './workbench';

/** Seconds of quiet; `FOUNDRY_IDLE_SECONDS` extends it. */
const QUIET = Number(process.env['FOUNDRY_IDLE_SECONDS'] ?? '60');

let mesh: Mesh;
let proxy: MeshProxy;
let browser: Browser;
let page: Page;
let complaints: Complaints;
let opened: number;
let task: string;

beforeAll(async () => {
  mesh = await Mesh.start();
  proxy = await MeshProxy.before(mesh.port);
  addRepository(mesh, 'alice');
  browser = await launch();
  page = await (await browser.newContext()).newPage();
  complaints = new Complaints(page, LOST_NETWORK);
  await signIn(page, mesh, 'alice', proxy.url);
  task = createTask(mesh, 'say ready to rest');
  opened = Date.now();
  await openTask(page, proxy, task);
  await shows(page, 'ready to rest');
  await page.getByText('Idle', { exact: false }).first().waitFor();
});

afterAll(async () => {
  await browser?.close();
  proxy?.close();
  await mesh?.dispose();
});

/** Waits in real time: the test is that nothing happens in it. */
async function quiet(seconds: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}

/**
 * Waits until pages have made no request for five seconds, or for a minute at most: endless requests are found later.
 */
async function atRest(...pages: Page[]): Promise<void> {
  const until = Date.now() + 60_000;
  for (let before = -1; proxy.requests.length !== before && Date.now() < until; ) {
    before = proxy.requests.length;
    // By the pages' own clocks, because a delayed page still has requests to make.
    await Promise.all(pages.map((each) => each.evaluate(() => new Promise((resolve) => setTimeout(resolve, 5_000)))));
  }
}

test(
  `in ${QUIET} s of rest the page sends no request, on one stream that carries heartbeats`,
  async () => {
    await atRest(page); // after the read mark and the panels of the first view
    const [since, down, streams] = [Date.now(), proxy.bytesDown, proxy.count(/EdgeService\/Watch$/, opened)];
    await quiet(QUIET);
    expect(proxy.requests.filter((r) => r.at >= since)).toEqual([]);
    expect(streams).toBe(1);
    const bytes = proxy.bytesDown - down;
    console.log(`idle for ${QUIET} s: 0 requests, 1 stream, ${bytes} bytes of heartbeats, ${proxy.connections} connections`);
    expect(bytes).toBeGreaterThan(0);
    expect(bytes).toBeLessThan(QUIET * 100);
  },
  QUIET * 1000 + 120_000,
);

test('after the network was severed there is one reconnect for the one stream, and data flows again', async () => {
  const since = Date.now();
  proxy.sever();
  await expect.poll(() => proxy.count(/EdgeService\/Watch$/, since), { timeout: 20_000 }).toBe(1);
  await send(page, 'say back again');
  await shows(page, 'back again');
  await quiet(3);
  expect(proxy.count(/EdgeService\/Watch$/, since)).toBe(1);
  expect(complaints.all).toEqual([]);
});

test('while the network is away the page says so and keeps what it shows, and comes back when it may', async () => {
  proxy.refuse();
  await page
    .getByText(/reconnecting/i)
    .first()
    .waitFor();
  await shows(page, 'back again');
  await quiet(4);
  const since = Date.now();
  proxy.restore();
  await page
    .getByText(/reconnecting/i)
    .first()
    .waitFor({ state: 'hidden' });
  await send(page, 'say after the storm');
  await shows(page, 'after the storm');
  expect(proxy.count(/EdgeService\/Watch$/, since)).toBe(1);
});

test('a browser without a network says so, asks nothing, and goes on by itself when it is back', async () => {
  const context = await browser.newContext();
  const far = await context.newPage();
  await signIn(far, mesh, 'alice', elsewhere(proxy.url));
  await openTask(far, { url: elsewhere(proxy.url) }, task);
  await shows(far, 'after the storm');
  await atRest(page, far);
  await context.setOffline(true);
  await far.getByText('You are offline').waitFor();
  await shows(far, 'after the storm');
  const since = Date.now();
  // Longer than the first attempts after a lost connection are apart.
  await quiet(3);
  expect(proxy.requests.filter((r) => r.at >= since)).toEqual([]);
  await send(page, 'say said meanwhile');
  await shows(page, 'said meanwhile');
  expect(await far.getByText('said meanwhile').count()).toBe(0);
  const back = Date.now();
  await context.setOffline(false);
  await far.getByText('You are offline').waitFor({ state: 'hidden' });
  await shows(far, 'said meanwhile');
  expect(proxy.count(/EdgeService\/Watch$/, back)).toBe(1);
  await context.close();
});

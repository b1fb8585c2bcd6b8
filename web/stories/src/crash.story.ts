/** When a tab's process dies, the shared worker that runs in it dies too. */
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { launch, signIn } from './browser';
import { Mesh } from './mesh';
import { addRepository, createTask, openTask, send, shows } from './workbench';

let mesh: Mesh;
let browser: Browser;

beforeAll(async () => {
  mesh = await Mesh.start();
  addRepository(mesh, 'alice');
  browser = await launch();
});

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
});

test('when the tab that came first crashes, the others go on with a worker of their own', async () => {
  const context = await browser.newContext();
  const first = await context.newPage();
  await signIn(first, mesh, 'alice');
  const task = createTask(mesh, 'say hello');
  const tabs = [await context.newPage(), await context.newPage()];
  for (const tab of tabs) {
    await tab.goto(first.url());
    await openTask(tab, mesh, task);
    await shows(tab, 'hello');
  }
  const crashed = first.waitForEvent('crash');
  // The call never returns.
  void (await context.newCDPSession(first)).send('Page.crash').catch(() => {});
  await crashed;
  const [one] = tabs;
  if (one) await send(one, 'say the others go on');
  for (const tab of tabs) await shows(tab, 'the others go on');
  expect(browser.isConnected()).toBe(true);
  await context.close();
});

/** Many tabs and many topics of one person, over HTTP/1.1 with its six connections per host. */
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Api } from './api';
import { Complaints, launch, person, signIn } from './browser';
import { Mesh } from './mesh';
import { MeshProxy } from '@foundry/testing';
import { addRepository, createTask, openTask, send, shows } from './workbench';

let mesh: Mesh;
let proxy: MeshProxy;
let browser: Browser;
let context: BrowserContext;
let page: Page;

beforeAll(async () => {
  mesh = await Mesh.start();
  proxy = await MeshProxy.before(mesh.port);
  addRepository(mesh, 'alice');
  browser = await launch();
  context = await browser.newContext();
  page = await context.newPage();
  await signIn(page, mesh, 'alice', proxy.url);
});

afterAll(async () => {
  await browser?.close();
  proxy?.close();
  await mesh?.dispose();
});

test('with eight tabs open and thirty topics on one stream, commands in every tab are answered', async () => {
  const tasks = Array.from({ length: 14 }, (_, i) => createTask(mesh, `say hello from task ${i + 1}`));
  const since = Date.now();
  const tabs: Page[] = [];
  const complaints: Complaints[] = [];
  for (let i = 0; i < 8; i += 1) {
    const tab = await context.newPage();
    complaints.push(new Complaints(tab));
    await tab.goto(page.url());
    await openTask(tab, proxy, tasks[i] ?? '');
    await shows(tab, `hello from task ${i + 1}`);
    tabs.push(tab);
  }
  // Task and session of 14 tasks, the organization, the shell and the user's state: more than thirty topics.
  for (const [i, task] of tasks.slice(8).entries()) {
    const tab = tabs[i % 6];
    if (tab === undefined) continue;
    await openTask(tab, proxy, task);
    await shows(tab, `hello from task ${i + 9}`);
  }
  for (const [i, tab] of tabs.entries()) {
    await send(tab, `say answer ${i + 1} has come`);
    await shows(tab, `answer ${i + 1} has come`);
  }
  expect(proxy.count(/EdgeService\/Watch$/, since)).toBe(0);
  expect(complaints.flatMap((c) => c.all)).toEqual([]);
  for (const tab of tabs) await tab.close();
});

test('two people see each other work, each with drafts and read marks of its own', async () => {
  const task = createTask(mesh, 'say shared ground');
  await openTask(page, proxy, task);
  await shows(page, 'shared ground');
  const organization = /\/o\/(org_[0-9a-f]+)/.exec(page.url())?.[1] ?? '';
  const other = await person(browser, mesh, 'bob');
  await (await Api.signIn(mesh, 'alice')).addMember('bob');
  await other.page.goto(`${mesh.url}/o/${organization}/t/${task}`);
  await shows(other.page, 'shared ground');
  await page.getByRole('textbox', { name: 'Message', exact: true }).fill('a draft of alice');
  await send(other.page, 'say bob was here');
  await shows(page, 'bob was here');
  await shows(other.page, 'bob was here');
  expect(await page.getByRole('textbox', { name: 'Message', exact: true }).inputValue()).toBe('a draft of alice');
  expect(await other.page.getByRole('textbox', { name: 'Message', exact: true }).inputValue()).toBe('');
  await page.getByText('Draft saved').waitFor();
  await page.reload();
  await expect.poll(async () => await page.getByRole('textbox', { name: 'Message', exact: true }).inputValue()).toBe('a draft of alice');
  await other.context.close();
});

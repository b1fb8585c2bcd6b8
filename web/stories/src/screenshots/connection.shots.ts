/** The page while answers are pending, and with a lost connection. */
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll } from 'vitest';
import { SessionState } from '@foundry/client/gen/foundry/task/v1/task_pb';
import { Api } from '../api';
import { elsewhere, launch, signIn } from '../browser';
import { Mesh } from '../mesh';
import { makeOrigin, MeshProxy } from '@foundry/testing';
import { type Made, Maker } from './made';
import { type Scene, Studio, takeAll } from './studio';
import { talks } from './taskPage';

let mesh: Mesh;
let proxy: MeshProxy;
let browser: Browser;
let studio: Studio;
let home = '';
let task: Made;
let repository = '';

beforeAll(async () => {
  mesh = await Mesh.start();
  proxy = await MeshProxy.before(mesh.port);
  const api = await Api.signIn(mesh, 'alice');
  const maker = new Maker(api);
  home = `/o/${api.organizationId}`;
  repository = await maker.repository(makeOrigin(mesh.dir, 'orchard'), 'orchard');
  for (const title of ['Count the pears', 'Prune the hedge', 'Water the seedlings'])
    await maker.task(repository, 'say It is done.', { title });
  task = await maker.task(repository, 'append README.md: Pears, too.\nsay Done: the README speaks of pears.', { title: 'Speak of pears' });
  await maker.when(task, 'saved', (it, session) => session.state === SessionState.IDLE && (it.changes?.filesChanged ?? 0) > 0);
  browser = await launch();
  // At an address of this machine, the page ignores the state of the network.
  const url = elsewhere(proxy.url);
  studio = new Studio(browser, url, async (page) => await signIn(page, mesh, 'alice', url));
});

afterAll(async () => {
  await browser?.close();
  proxy?.close();
  await mesh?.dispose();
});

const taskPage =
  (panel = '') =>
  () =>
    `${home}/t/${task.taskId}${panel}`;

/** Waits for the text that is loaded already, if any, and a skeleton in place of the pending answer. */
async function skeleton(page: Page, known?: string): Promise<void> {
  if (known !== undefined) await page.getByRole('main').getByText(known).first().waitFor();
  await page.locator('.mantine-Skeleton-root:visible').first().waitFor();
}

/** A scene in which some requests are never answered. */
function withheld(name: string, requests: RegExp, path: () => string, known?: string): Scene {
  return {
    name,
    // `path` is called before the page is opened.
    path: () => {
      proxy.withhold(requests);
      return path();
    },
    ready: async (page) => await skeleton(page, known),
    after: async () => {
      proxy.withhold(undefined);
      proxy.sever();
    },
  };
}

async function lose(page: Page): Promise<void> {
  proxy.refuse();
  await page.getByRole('region', { name: 'Connection' }).waitFor();
}

const back = async (): Promise<void> => proxy.restore();

const scenes: Scene[] = [
  withheld('loading-list', /WatchService|EdgeService\//, () => home),
  withheld('loading-task', /WatchService|EdgeService\//, taskPage()),
  withheld('loading-repository', /WatchService|EdgeService\//, () => `${home}/r/${repository}`),
  withheld('loading-changes', /ListFileChanges/, taskPage('?panel=changes'), 'Speak of pears'),
  withheld('loading-diff', /GetFileDiff/, taskPage('?panel=changes'), 'Speak of pears'),
  withheld('loading-explain', /ExplainTask/, taskPage('?panel=explain'), 'Speak of pears'),
  {
    name: 'lost-task',
    path: taskPage(),
    ready: async (page) => {
      await talks(page, /speaks of pears/);
      await lose(page);
      await page.getByText('data may be out of date').first().waitFor();
    },
    after: back,
  },
  {
    name: 'lost-list',
    path: () => home,
    ready: async (page) => {
      await page.getByText('Count the pears').first().waitFor();
      await lose(page);
      await page.getByText('data may be out of date').first().waitFor();
    },
    after: back,
  },
  {
    name: 'lost-command-refused',
    path: taskPage(),
    ready: async (page) => {
      await talks(page, /speaks of pears/);
      await lose(page);
      await page.getByRole('textbox', { name: 'Message', exact: true }).fill('And of plums.');
      await page.getByRole('textbox', { name: 'Message', exact: true }).press('Enter');
      await page.getByText('The message was not sent').first().waitFor();
    },
    after: async (page) => {
      proxy.restore();
      await page.getByRole('textbox', { name: 'Message', exact: true }).fill('');
    },
  },
  {
    name: 'offline-task',
    path: taskPage(),
    ready: async (page) => {
      await talks(page, /speaks of pears/);
      await page.context().setOffline(true);
      await page.getByText('You are offline').waitFor();
    },
    after: async (page) => await page.context().setOffline(false),
  },
  {
    name: 'lost-panel',
    path: taskPage('?panel=explain'),
    ready: async (page) => {
      await page.getByRole('button', { name: 'Explain again' }).waitFor();
      await lose(page);
      await page.getByRole('button', { name: 'Explain again' }).click();
      await page.getByText('The task could not be explained').waitFor();
    },
    after: back,
  },
];

takeAll(scenes, () => studio);

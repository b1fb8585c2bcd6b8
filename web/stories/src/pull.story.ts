/** From a private repository to an open pull request with green checks; its credential is nowhere it should not be. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser, Locator, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { rests, wrongs } from './axe';
import { launch, signIn } from './browser';
import { filesWith, partsWith, processesWith } from './canary';
import { addHook, deliver, type Hook } from './deliveries';
import { Forge } from './forge';
import { Mesh } from './mesh';
import { act, createByKeyboard, isState, type Newcomer, newcomer, panel } from './page';
import { shows } from './workbench';

/** Looks different in a URL, in JSON and in base64. */
const TOKEN = 'canary+token/0123456789%wxyz';
const NAME = 'team/app';
/** How long a change at the host may take to be seen by polling: a poll each 15 s, and room for a busy machine. */
const POLLED_MS = 60_000;

let forge: Forge;
let mesh: Mesh;
let browser: Browser;
let me: Newcomer;
let page: Page;
let repository: string;
let task: string;
let hook: Hook;

beforeAll(async () => {
  forge = await Forge.start();
  forge.repository(NAME);
  await forge.require(TOKEN);
  mesh = await Mesh.start([...forge.settings, 'repo.poll_active=15s']);
  mesh.cli('login', '--login', 'alice');
  browser = await launch();
  me = await newcomer(browser, { reducedMotion: 'reduce' });
  page = me.page;
  await signIn(page, mesh, 'alice');
});

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
  await forge?.close();
});

/** What the task that is shown says about its pull request. */
async function pullRequest(): Promise<Locator> {
  const changes = await panel(page, 'Changes');
  return changes.getByRole('listitem').filter({ hasText: 'Pull request #1' });
}

test('a private repository is added with a credential and a webhook', async () => {
  await page.getByRole('main').getByRole('button', { name: 'Add repository' }).click();
  const dialog = page.getByRole('dialog', { name: 'Add repository' });
  await dialog.getByLabel('URL').fill(forge.url(NAME));
  await dialog.getByRole('button', { name: 'Add repository' }).click();
  await page.getByRole('main').getByText('Needs a credential').first().waitFor();
  const credential = page.getByRole('region', { name: 'Credential' });
  await credential.getByLabel('Token or password').fill(TOKEN);
  await credential.getByRole('button', { name: 'Store credential' }).click();
  await page.getByRole('main').getByText('Ready', { exact: true }).waitFor();
  repository = page.url();
  hook = await addHook(page);
  expect(await partsWith(page, hook.secret)).toEqual([]);
});

test('a task works on it, and its work becomes a pull request', async () => {
  await createByKeyboard(page, 'write docs/guide.md: Pick the ripe ones.\nrun env; cat .git/config\nsay the work is done');
  task = page.url();
  await shows(page, 'the work is done');
  await isState(page, 'Idle');
  await act(page, 'Publish pull request…');
  const dialog = page.getByRole('dialog', { name: 'Publish pull request' });
  await dialog.getByRole('textbox', { name: 'Branch', exact: true }).fill('feat/guide');
  await dialog.getByRole('textbox', { name: 'Commit message' }).fill('Write the guide');
  await dialog.getByRole('button', { name: 'Publish', exact: true }).click();
  await dialog.getByRole('region', { name: 'Publication' }).getByRole('link', { name: 'Pull request #1' }).waitFor();
  expect(await forge.pulls(NAME)).toEqual([[1, 'Write the guide']]);
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'hidden' });
});

test('its checks go from pending to green, and a review arrives, without a reload', async () => {
  const shown = await pullRequest();
  await forge.check(NAME, 'feat/guide', 'unit tests', 'pending');
  await shown.getByText('1 of 1 checks pending').waitFor({ timeout: POLLED_MS }); // by polling

  await forge.check(NAME, 'feat/guide', 'unit tests', 'failed');
  expect(await deliver(hook, 'check_run', NAME)).toBe(200);
  await shown.getByText('1 of 1 checks failed').waitFor({ timeout: 8_000 });

  await forge.check(NAME, 'feat/guide', 'unit tests', 'passed');
  expect(await deliver(hook, 'check_run', NAME)).toBe(200);
  await shown.getByText('checks passed').waitFor({ timeout: 8_000 });

  await forge.review(NAME, 1, 'bob', 'APPROVED');
  await shown.getByText('open, checks passed, approved').waitFor({ timeout: POLLED_MS }); // by polling
  await rests(page, 'light');
  expect(await wrongs(page, false)).toEqual([]);
});

test('the overview of the repository shows it, and how it was read', async () => {
  await page.goto(repository);
  const row = page.getByRole('row').filter({ hasText: 'feat/guide' });
  await row.getByText('open, checks passed, approved').waitFor();
  const facts = page.getByRole('main');
  await facts.getByText(/^1 open, as of .*, by polling/).waitFor();
  await facts.getByText(/^\d+ of 5000/).waitFor();
  await deliver(hook, 'pull_request', NAME);
  await facts.getByText(/^1 open, as of .*, by a webhook/).waitFor();
  expect(await partsWith(page, TOKEN)).toEqual([]);
  await page.goto(task);
});

test('the credential is in no file, no process and no part of the page', async () => {
  await shows(page, 'the work is done');
  // What is searched for would be found.
  const planted = join(mesh.dir, 'planted');
  for (const written of [`url=http://x:${encodeURIComponent(TOKEN)}@host`, Buffer.from(`x-access-token:${TOKEN}`).toString('base64')]) {
    writeFileSync(planted, written);
    expect(filesWith(mesh.dir, TOKEN)).toEqual([planted]);
  }
  rmSync(planted);
  expect(processesWith(mesh.dir, mesh.dir).bad).not.toEqual([]);
  expect(await partsWith(page, 'the work is done')).toEqual(['document', 'text']);
  expect(filesWith(mesh.dir, TOKEN)).toEqual([]); // databases, log, mirror, sandbox
  const { looked, bad } = processesWith(mesh.dir, TOKEN);
  expect(looked).toBeGreaterThan(1); // the mesh, and the sandbox with its agent
  expect(bad).toEqual([]);
  expect(await partsWith(page, TOKEN)).toEqual([]);
  expect(me.complaints.all).toEqual([]);
});

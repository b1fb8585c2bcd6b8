/** A private repository in the browser: it is added, says what it needs, gets its credential, and a task works on it. */
import type { Browser, Page } from 'playwright-core';
import { makeOrigin } from '@foundry/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { rests, wrongs } from './axe';
import { type Complaints, launch, signIn } from './browser';
import { GitHost } from './gitHost';
import { Mesh } from './mesh';
import { confirm, createByKeyboard, newcomer } from './page';
import { shows } from './workbench';

const TOKEN = 'token-never-to-be-seen-0123456789wxyz';

let mesh: Mesh;
let host: GitHost;
let browser: Browser;
let page: Page;
let complaints: Complaints;

beforeAll(async () => {
  mesh = await Mesh.start(['repo.allow_http=true', 'repo.allow_private_addresses=true']);
  mesh.cli('login', '--login', 'alice');
  makeOrigin(mesh.dir, 'orchard');
  host = await GitHost.start(mesh.dir, TOKEN);
  browser = await launch();
  ({ page, complaints } = await newcomer(browser, { reducedMotion: 'reduce' }));
  await signIn(page, mesh, 'alice');
});

afterAll(async () => {
  await browser?.close();
  host?.close();
  await mesh?.dispose();
});

async function store(secret: string, deed: string): Promise<void> {
  const section = page.getByRole('region', { name: 'Credential' });
  await section.getByLabel('Token or password').fill(secret);
  await section.getByRole('button', { name: deed }).click();
}

test('a private repository says that it needs a credential, and is there once it has one', async () => {
  await page.getByRole('main').getByRole('button', { name: 'Add repository' }).click();
  const dialog = page.getByRole('dialog', { name: 'Add repository' });
  await dialog.getByLabel('URL').fill(`${host.url}/orchard/.git`);
  await dialog.getByLabel('Name (optional)').fill('orchard');
  await dialog.getByRole('button', { name: 'Add repository' }).click();
  await page.getByRole('main').getByText('Needs a credential').first().waitFor();
  await rests(page, 'light');
  expect(await wrongs(page, false)).toEqual([]);

  await store('wrong-token-0123456789', 'Store credential');
  await page.getByRole('main').getByText('REPOSITORY_CREDENTIALS_REFUSED').first().waitFor();
  await store(TOKEN, 'Replace credential');
  await page.getByRole('main').getByText('Ready', { exact: true }).waitFor();
  await page.getByText('A token (…wxyz) for this repository').waitFor();
  await page.getByText('harvest').waitFor();
  expect(await page.content()).not.toContain(TOKEN);
});

test('a task works on it, and without its credential it cannot be synchronized any more', async () => {
  const repository = page.url();
  await createByKeyboard(page, 'write docs/hello.md: Hello.\nsay It is done');
  await shows(page, 'It is done');
  await page.goto(repository);
  await page.getByRole('button', { name: 'Remove credential' }).click();
  await confirm(page, 'Remove the credential?', 'Remove credential');
  await page.getByRole('button', { name: 'Refresh' }).click();
  await page.getByRole('main').getByText('Needs a credential').first().waitFor();
  expect(complaints.all).toEqual([]);
});

/** A host announces a push: the page shows the new head within a second, and a delivery with a wrong signature does nothing. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { BranchSyncSource } from '@foundry/client/gen/foundry/repo/v1/repo_pb';
import { Api } from './api';
import { launch, signIn } from './browser';
import { addHook, deliver, type Hook } from './deliveries';
import { Forge, git } from './forge';
import { Mesh } from './mesh';
import { type Newcomer, newcomer } from './page';

const NAME = 'team/orchard';
/** Of what is announced within this time after a synchronization has begun, one that follows reads all. */
const BETWEEN_MS = 2_000;
const WITHIN_MS = 1_000;

let forge: Forge;
let mesh: Mesh;
let api: Api;
let browser: Browser;
let me: Newcomer;
let page: Page;
let tree: string;
let hook: Hook;
let repositoryId: string;

beforeAll(async () => {
  forge = await Forge.start();
  tree = forge.repository(NAME);
  mesh = await Mesh.start([...forge.settings, 'gateway.webhook_answer=10s']);
  api = await Api.signIn(mesh, 'alice');
  const { organizationId } = api;
  const made = await api.repo.createRepository({ organizationId, url: forge.url(NAME), name: 'orchard' });
  repositoryId = made.repository?.repositoryId ?? '';
  browser = await launch();
  me = await newcomer(browser, { reducedMotion: 'reduce' });
  page = me.page;
  await signIn(page, mesh, 'alice');
  await page.goto(`${mesh.url}/o/${organizationId}/r/${repositoryId}`);
  await page.getByText('Plant the orchard').filter({ visible: true }).first().waitFor();
  hook = await addHook(page);
});

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
  await forge?.close();
});

/** Somebody pushes a commit to main. */
function push(subject: string): void {
  writeFileSync(join(tree, 'news.txt'), subject);
  git(tree, 'add', '.');
  git(tree, 'commit', '--quiet', '-m', subject);
  git(tree, 'push', '--quiet', 'origin', 'main');
}

/** When and for what the branches were read last. */
async function branches(): Promise<{ asOf: number; source: BranchSyncSource }> {
  const { repository } = await api.repo.getRepository({ repositoryId });
  const { asOf, source = BranchSyncSource.UNSPECIFIED } = repository?.branchSync ?? {};
  return { asOf: Number(asOf?.seconds ?? 0n), source };
}

/** Waits until a synchronization may begin at once. */
async function rested(): Promise<void> {
  await expect.poll(async () => Date.now() - (await branches()).asOf * 1000, { timeout: 20_000 }).toBeGreaterThan(BETWEEN_MS + 1_000);
}

test('a delivery with a wrong signature does nothing', async () => {
  const before = await branches();
  push('Pick pears');
  expect(await deliver(hook, 'push', NAME, 'another secret')).toBe(401);
  expect(await deliver({ ...hook, address: `${hook.address}0` }, 'push', NAME)).toBe(404);
  await page.getByText('No delivery has arrived yet.').waitFor();
  // One that is right comes after them, so what they would have done has begun.
  expect(await deliver(hook, 'ping', NAME)).toBe(200);
  await rested();
  await page.getByText(/: ping, a test of the host$/).waitFor();
  expect(await branches()).toEqual(before);
  expect(await page.getByText('Pick pears').count()).toBe(0);
});

test('one with the right signature makes the page show the new head within a second', async () => {
  const took: number[] = [];
  for (const subject of ['Pick plums', 'Pick cherries', 'Pick quinces']) {
    await rested();
    push(subject);
    const begun = performance.now();
    expect(await deliver(hook, 'push', NAME)).toBe(200);
    await page.getByText(subject).filter({ visible: true }).waitFor({ timeout: 20_000 });
    took.push(performance.now() - begun);
  }
  console.log(`shown after ${took.map((ms) => Math.round(ms)).join(', ')} ms`);
  expect(Math.min(...took)).toBeLessThan(WITHIN_MS);
  await page.getByText(/: push, branches were read again$/).waitFor();
  await page.getByText(/^as of .*, by a webhook/).waitFor();
  expect(me.complaints.all).toEqual([]);
});

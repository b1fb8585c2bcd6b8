/** Publishing the work of a task as a branch: the plan, a refusal in the host's words, and the branch at the remote. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { wrongs } from './axe';
import { launch, signIn } from './browser';
import { Mesh } from './mesh';
import { act, isState, type Newcomer, newcomer, panel } from './page';
import { addRepository, createTask, openTask, said } from './workbench';

let mesh: Mesh;
let browser: Browser;
let me: Newcomer;

beforeAll(async () => {
  mesh = await Mesh.start();
  addRepository(mesh, 'alice');
  browser = await launch();
  me = await newcomer(browser);
  await signIn(me.page, mesh, 'alice');
  const taskId = createTask(mesh, 'write docs/guide.md: Pick the ripe ones.\nsay the work is done', ['--allow', '--branch', 'feat/guide']);
  await openTask(me.page, mesh, taskId);
  await said(me.page).filter({ hasText: 'the work is done' }).waitFor({ timeout: 60_000 });
  await isState(me.page, 'Idle');
});

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
});

function git(...args: string[]): string {
  const done = spawnSync('git', ['-C', join(mesh.dir, 'orchard'), ...args], { encoding: 'utf8' });
  if (done.status !== 0) throw new Error(`git ${args.join(' ')}: ${done.stderr}`);
  return done.stdout.trim();
}

test('a branch is planned, refused in the words of the host, and published', async () => {
  const { page } = me;
  const hooks = git('rev-parse', '--path-format=absolute', '--git-path', 'hooks');
  const hook = join(hooks, 'pre-receive');
  mkdirSync(hooks, { recursive: true });
  writeFileSync(hook, '#!/bin/sh\necho "error: GH006: Protected branch update failed for refs/heads/feat/guide."\nexit 1\n');
  chmodSync(hook, 0o755);

  await act(page, 'Publish branch…');
  const dialog = page.getByRole('dialog', { name: 'Publish branch' });
  const job = dialog.getByRole('region', { name: 'Publication' });
  await expect.poll(async () => await dialog.getByRole('textbox', { name: 'Branch', exact: true }).inputValue()).toBe('feat/guide');
  await dialog.getByRole('textbox', { name: 'Commit message' }).fill('Write the guide');
  await dialog.getByRole('button', { name: 'Show plan' }).click();
  await job.getByText('This would be pushed to feat/guide').waitFor();
  await job.getByText('Write the guide').waitFor();
  expect(git('branch', '--list', 'feat/guide')).toBe('');

  await dialog.getByRole('button', { name: 'Publish', exact: true }).click();
  await job.getByText('Not published to feat/guide').waitFor();
  await job.getByText('BRANCH_PROTECTED').waitFor();
  await job.getByText('The remote said:').waitFor();
  expect(await wrongs(page, false)).toEqual([]);

  rmSync(hook);
  await dialog.getByRole('button', { name: 'Publish', exact: true }).click();
  await job.getByText(/^feat\/guide is at [0-9a-f]{12} at the remote$/).waitFor();
  const tip = git('rev-parse', 'feat/guide');
  await job.getByText(`feat/guide is at ${tip.slice(0, 12)} at the remote`).waitFor();
  expect(git('log', '-1', '--format=%s %an', 'feat/guide')).toBe('Write the guide alice');
  await dialog.getByRole('button', { name: 'Close', exact: true }).last().click();
  const changes = await panel(page, 'Changes');
  await changes.getByText(`Published at ${tip.slice(0, 12)} on feat/guide`).waitFor();
  expect(me.complaints.all).toEqual([]);
});

/** Reviewing an agent's work: changes, patch, files, processes, the record, and the explanation of a task's state. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { launch, signIn } from './browser';
import { Mesh } from './mesh';
import { act, isState, type Newcomer, newcomer, panel } from './page';
import { addRepository, createTask, openTask, said, send, shows } from './workbench';

const PROMPT = [
  'replace Hello with Good day in src/greeting.txt',
  'write docs/guide.md: Pick the ripe ones.',
  'rename README.md to `READ ME.md`',
  'delete logo.bin',
  'say the work is done',
].join('\n');

let mesh: Mesh;
let browser: Browser;
let me: Newcomer;

beforeAll(async () => {
  mesh = await Mesh.start();
  addRepository(mesh, 'alice');
  browser = await launch();
  me = await newcomer(browser);
  await signIn(me.page, mesh, 'alice');
  const taskId = createTask(mesh, PROMPT);
  await openTask(me.page, mesh, taskId);
  // The prompt contains these words too, and is shown when the turn begins.
  await said(me.page).filter({ hasText: 'the work is done' }).waitFor({ timeout: 60_000 });
  try {
    await isState(me.page, 'Idle');
  } catch (cause) {
    throw new Error(`the mesh says: ${mesh.cli('task', 'show', taskId)}`, { cause });
  }
});

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
});

test('the changed files are listed with their kind, and a diff is read in one column and in two', async () => {
  const { page } = me;
  const changes = await panel(page, 'Changes');
  const files = changes.getByRole('list', { name: 'Changed files' }).getByRole('listitem');
  await expect.poll(async () => await files.count(), { timeout: 30_000 }).toBe(4);
  for (const [file, kind] of [
    ['greeting.txt', 'modified'],
    ['guide.md', 'added'],
    ['READ ME.md', 'renamed'],
    ['logo.bin', 'deleted'],
  ] as const) {
    await files.filter({ hasText: file }).getByRole('img', { name: kind, exact: true }).waitFor();
  }
  const greeting = files.filter({ hasText: 'greeting.txt' });
  const open = async (): Promise<void> => await greeting.getByRole('button', { name: /^modified/, expanded: false }).click();
  await open();
  const diff = greeting.getByRole('region', { name: /^Diff of / });
  await diff.getByText('Good day, orchard.').waitFor();
  await changes.getByRole('radiogroup', { name: 'Diff view' }).getByText('Unified').click();
  const columns = async (): Promise<number> =>
    await diff.locator('tbody tr').filter({ hasText: 'Hello, orchard.' }).filter({ hasText: 'Good day, orchard.' }).count();
  await expect.poll(columns).toBe(0);
  await changes.getByRole('radiogroup', { name: 'Diff view' }).getByText('Split').click();
  await expect.poll(columns).toBe(1);
  await page.reload();
  await open();
  await diff.getByText('Good day, orchard.').waitFor();
  await expect.poll(columns).toBe(1);
  expect(me.complaints.all).toEqual([]);
});

/** Runs git, which must succeed. */
function git(...args: string[]): string {
  const done = spawnSync('git', args, { encoding: 'utf8' });
  if (done.status !== 0) throw new Error(`git ${args.join(' ')}: ${done.stderr}`);
  return done.stdout;
}

/** Downloads the patch of the task that is shown and applies it to a fresh clone of the origin; returns the clone. */
async function applied(page: Page, begin: () => Promise<void>, name: string): Promise<string> {
  const coming = page.waitForEvent('download');
  await begin();
  const download = await coming;
  expect(download.suggestedFilename()).toMatch(/\.patch$/);
  const patch = join(mesh.dir, `${name}.patch`);
  await download.saveAs(patch);
  const clone = join(mesh.dir, name);
  git('clone', '--quiet', join(mesh.dir, 'orchard'), clone);
  git('-C', clone, 'apply', '--index', patch);
  return clone;
}

test('the patch that is downloaded applies to a fresh clone of the origin and makes the same tree', async () => {
  const { page } = me;
  const changes = await panel(page, 'Changes');
  const download = async (): Promise<void> => {
    await changes.getByRole('button', { name: 'Download patch' }).click();
    // The message is shown for a few seconds, and the clone may take longer.
    await page.getByRole('region', { name: 'Messages' }).getByText('Patch downloaded').waitFor();
  };
  const clone = await applied(page, download, 'clone-of-panel');
  expect(readFileSync(join(clone, 'src/greeting.txt'), 'utf8')).toBe('Good day, orchard.\n');
  expect(readFileSync(join(clone, 'docs/guide.md'), 'utf8').trim()).toBe('Pick the ripe ones.');
  expect(existsSync(join(clone, 'logo.bin'))).toBe(false);
  expect(
    git('-C', clone, 'status', '--porcelain')
      .trim()
      .split('\n')
      .map((line) => line.slice(0, 1))
      .sort(),
  ).toEqual(['A', 'D', 'M', 'R']);
  const again = await applied(page, async () => await act(page, 'Download patch'), 'clone-of-menu');
  expect(git('-C', again, 'write-tree')).toBe(git('-C', clone, 'write-tree'));
  expect(me.complaints.all).toEqual([]);
});

test('the tree of files is walked by keys and by clicks, and a file is shown with its lines', async () => {
  const { page } = me;
  const files = await panel(page, 'Files');
  const tree = files.getByRole('tree', { name: 'Files' });
  const entry = (name: string) => tree.getByRole('treeitem').filter({ hasText: new RegExp(`^${name}$`) });
  await entry('READ ME\\.md').waitFor();
  expect(await entry('logo\\.bin').count()).toBe(0);
  await entry('src').click();
  await entry('parser').click();
  await entry('tree\\.ts').click();
  const file = files.getByRole('region', { name: 'File src/parser/tree.ts' });
  await file.getByText('export const branch59 = 59;').waitFor();
  await file.getByRole('button', { name: 'Back to the tree' }).click();
  await file.waitFor({ state: 'hidden' });
  await tree.focus();
  await page.keyboard.press('Home');
  await page.keyboard.press('d');
  await page.keyboard.press('ArrowRight');
  await entry('guide\\.md').waitFor();
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Enter');
  await files.getByRole('region', { name: 'File docs/guide.md' }).getByText('Pick the ripe ones.').waitFor();
  expect(me.complaints.all).toEqual([]);
});

test('the processes of the sandbox are listed while a command runs', async () => {
  const { page } = me;
  const processes = await panel(page, 'Processes');
  await processes.getByRole('region', { name: 'Processes' }).getByRole('row').nth(1).waitFor();
  await send(page, 'run sleep 4242');
  await shows(page, /sleep 4242/);
  const sleeping = processes.getByRole('row').filter({ hasText: 'sleep 4242' });
  // Processes are read only on request; the command starts a moment after it is announced.
  await expect
    .poll(
      async () => {
        await processes.getByRole('button', { name: 'Refresh' }).click();
        await processes.getByRole('button', { name: 'Refresh' }).and(page.locator(':not([data-loading])')).waitFor();
        return await sleeping.count();
      },
      { timeout: 30_000, interval: 300 },
    )
    .toBeGreaterThan(0);
  await page.getByTitle('Stop the turn (Esc)').click();
  await isState(page, 'Idle');
  expect(me.complaints.all).toEqual([]);
});

test('the record says who did what, and the explanation says what the task waits for', async () => {
  const { page } = me;
  const activity = await panel(page, 'Activity');
  await activity.getByText('task.create', { exact: true }).waitFor();
  await activity.getByRole('listitem').filter({ hasText: 'task.create' }).getByText('you', { exact: false }).first().waitFor();
  const explain = await panel(page, 'Explain');
  await explain.getByRole('listitem').first().waitFor();
  await explain.getByText(/idle/i).first().waitFor();
  expect(new URL(page.url()).searchParams.get('panel')).toBe('explain');
  await page.reload();
  await page.getByRole('tab', { name: 'Explain', selected: true }).waitFor();
  expect(me.complaints.all).toEqual([]);
});

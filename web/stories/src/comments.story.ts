/** Comments on lines of an agent's work: kept, sent as one message, and what came of them. */
import type { Browser, Locator, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Api } from './api';
import { rests, wrongs } from './axe';
import { launch, person, signIn } from './browser';
import { Mesh } from './mesh';
import { isState, type Newcomer, newcomer, panel } from './page';
import { addRepository, createTask, openTask, organizationOf, said, transcript } from './workbench';

const PROMPT = ['replace Hello with Good day in src/greeting.txt', 'write docs/guide.md: Pick the ripe ones.', 'say the work is done'].join(
  '\n',
);

let mesh: Mesh;
let browser: Browser;
let me: Newcomer;

beforeAll(async () => {
  mesh = await Mesh.start();
  addRepository(mesh, 'alice');
  browser = await launch();
  me = await newcomer(browser);
  await signIn(me.page, mesh, 'alice');
});

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
});

/** A task whose two changed files are listed. */
async function worked(page: Page): Promise<{ taskId: string; changes: Locator }> {
  const taskId = createTask(mesh, PROMPT);
  await openTask(page, mesh, taskId);
  await said(page).filter({ hasText: 'the work is done' }).waitFor({ timeout: 60_000 });
  await isState(page, 'Idle');
  return { taskId, changes: await listed(page) };
}

/** The panel, once both files are listed. */
async function listed(page: Page): Promise<Locator> {
  const changes = await panel(page, 'Changes');
  await expect.poll(async () => await filesIn(changes).count(), { timeout: 30_000 }).toBe(2);
  return changes;
}

const filesIn = (changes: Locator) => changes.getByRole('list', { name: 'Changed files' }).getByRole('listitem');
const fileIn = (changes: Locator, name: string) => filesIn(changes).filter({ hasText: name });
const viewed = (changes: Locator, path: string) => changes.getByRole('checkbox', { name: `Viewed ${path}` });
const status = (changes: Locator) => changes.getByRole('region', { name: 'Review' }).getByRole('status');

/** The diff of a file, opened if it is not. */
async function diffOf(changes: Locator, name: string): Promise<Locator> {
  const file = fileIn(changes, name);
  const closed = file.getByRole('button', { expanded: false }).first();
  if (await closed.isVisible()) await closed.click();
  const diff = file.getByRole('region', { name: /^Diff of / });
  await diff.waitFor();
  return diff;
}

/** Keeps a comment on a line of the new side. */
async function comment(changes: Locator, name: string, line: number, text: string): Promise<void> {
  const diff = await diffOf(changes, name);
  await diff.locator(`.diff-gutter[data-change-key="I${line}"]`).last().click();
  const field = diff.getByRole('textbox', { name: `Comment on line ${line}` });
  await field.fill(text);
  await field.press('Control+Enter');
  await diff.getByRole('article', { name: `Your comment on line ${line}` }).waitFor();
}

test('comments on two lines survive a reload, are sent as one message, and what the agent did with them is seen alone', async () => {
  const { page } = me;
  const { changes } = await worked(page);
  await comment(changes, 'greeting.txt', 1, 'replace Good day with Good morning in src/greeting.txt');
  const guide = await diffOf(changes, 'guide.md');
  await guide.focus();
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('c');
  await page.keyboard.type('say the guide stays as it is');
  await page.keyboard.press('Control+Enter');
  await guide.getByRole('article', { name: 'Your comment on line 1' }).waitFor();
  for (const path of ['docs/guide.md', 'src/greeting.txt']) await viewed(changes, path).check();
  await status(changes).getByText('2 comments, 2 of 2 viewed').waitFor();

  await page.reload();
  await listed(page);
  await status(changes).getByText('2 comments, 2 of 2 viewed').waitFor();
  await (await diffOf(changes, 'greeting.txt')).getByText('replace Good day with Good morning').waitFor();
  for (const scheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme: scheme });
    await rests(page, scheme);
    expect(await wrongs(page, false), scheme).toEqual([]);
  }
  await page.emulateMedia({ colorScheme: 'light' });

  await changes.getByRole('button', { name: 'Send review' }).click();
  await changes.getByRole('textbox', { name: 'Summary of the review' }).fill('Two small things.');
  await changes.getByRole('button', { name: 'Send 2 comments' }).click();
  await said(page).filter({ hasText: 'the guide stays as it is' }).waitFor({ timeout: 60_000 });
  await isState(page, 'Idle');
  const message = transcript(page)
    .getByRole('article', { name: /^Message from / })
    .filter({ hasText: 'Two small things.' });
  await message.getByText('> Good day, orchard.').waitFor();

  await expect.poll(async () => await viewed(changes, 'src/greeting.txt').isChecked(), { timeout: 30_000 }).toBe(false);
  expect(await viewed(changes, 'docs/guide.md').isChecked()).toBe(true);
  await status(changes).getByText('No comments, 1 of 2 viewed').waitFor();

  await changes.getByRole('checkbox', { name: 'Since last turn' }).check();
  await expect.poll(async () => await filesIn(changes).count()).toBe(1);
  const since = await diffOf(changes, 'greeting.txt');
  await since.getByText('Good morning, orchard.').waitFor();
  await since.getByText('Good day, orchard.').waitFor();
  expect(await since.getByText('Hello, orchard.').count()).toBe(0);
  await changes.getByRole('checkbox', { name: 'Since last turn' }).uncheck();

  await message.getByRole('button', { name: '2. `src/greeting.txt`, line 1' }).click();
  await (await diffOf(changes, 'greeting.txt')).locator('.diff-line .diff-code-selected').first().waitFor();
  expect(me.complaints.all).toEqual([]);
});

test('on a phone a comment is written below its line, and nothing scrolls sideways', async () => {
  const { page } = me;
  await page.setViewportSize({ width: 390, height: 844 });
  const changes = page.getByRole('tabpanel', { name: /^Changes/ });
  await page.getByRole('tab', { name: /^Changes/ }).click();
  await comment(changes, 'greeting.txt', 1, 'From the train.');
  const over = await page.evaluate(() => (document.scrollingElement?.scrollWidth ?? 0) - innerWidth);
  expect(over).toBeLessThanOrEqual(0);
  const box = await changes.getByRole('article', { name: 'Your comment on line 1' }).boundingBox();
  expect((box?.x ?? 0) + (box?.width ?? 999)).toBeLessThanOrEqual(391);
  await changes.getByRole('button', { name: 'Delete the comment on line 1' }).click();
  await status(changes)
    .getByText(/^No comments/)
    .waitFor();
  await page.setViewportSize({ width: 1280, height: 800 });
  expect(me.complaints.all).toEqual([]);
});

test('two tabs of a person show the same review, and another person has one of their own', async () => {
  const { page } = me;
  const { taskId, changes } = await worked(page);
  const second = await me.context.newPage();
  await second.goto(page.url());
  const there = await listed(second);
  await comment(changes, 'greeting.txt', 1, 'Seen in both.');
  await (await diffOf(there, 'greeting.txt')).getByText('Seen in both.').waitFor();
  await viewed(there, 'docs/guide.md').check();
  await expect.poll(async () => await viewed(changes, 'docs/guide.md').isChecked()).toBe(true);

  const id = mesh.cli('task', 'review', taskId, '--comment', 'docs/guide.md:1', 'From the terminal.').trim();
  await (await diffOf(changes, 'guide.md')).getByText('From the terminal.').waitFor();
  const shown = mesh.cli('task', 'review', taskId);
  expect(shown).toContain(`${id}  docs/guide.md:1`);
  expect(shown).toMatch(/yes\s+added\s+1\s+docs\/guide\.md/);
  mesh.cli('task', 'review', taskId, '--remove', id);

  const organization = organizationOf(page);
  const other = await person(browser, mesh, 'bob');
  await (await Api.signIn(mesh, 'alice')).addMember('bob');
  await other.page.goto(`${mesh.url}/o/${organization}/t/${taskId}`);
  const theirs = await listed(other.page);
  await status(theirs).getByText('No comments, 0 of 2 viewed').waitFor();
  await comment(theirs, 'greeting.txt', 1, 'Of bob alone.');

  await there.getByRole('button', { name: 'Delete the comment on line 1' }).click();
  await status(changes).getByText('No comments, 1 of 2 viewed').waitFor();
  expect(await changes.getByText('Of bob alone.').count()).toBe(0);
  await status(theirs).getByText('1 comment, 0 of 2 viewed').waitFor();
  await other.context.close();
  await second.close();
  expect(me.complaints.all).toEqual([]);
});

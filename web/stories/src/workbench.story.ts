/** From an empty organization to a finished task, as a new user does it. */
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { launch } from './browser';
import { Mesh } from './mesh';
import { makeOrigin } from '@foundry/testing';
import { act, confirm, createByKeyboard, isState, type Newcomer, newcomer, provisioning, row, signInByForm, stage, title } from './page';
import { composer, list, said, send, shows, transcript } from './workbench';

const STAGES = ['Allocate sandbox', 'Prepare repository', 'Install agent', 'Start agent', 'Agent ready', 'Create session', 'Ready'];

let mesh: Mesh;
let browser: Browser;
let me: Newcomer;

beforeAll(async () => {
  mesh = await Mesh.start();
  mesh.cli('login', '--login', 'alice'); // for cleaning up
  browser = await launch();
  me = await newcomer(browser);
});

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
});

test('someone new signs in and is asked for a repository, which is mirrored while they look', async () => {
  const { page } = me;
  await page.goto(mesh.url);
  await signInByForm(page, mesh.secret, 'alice');
  await page.getByRole('heading', { name: 'Add a repository to get started' }).waitFor();
  await page.getByRole('main').getByRole('button', { name: 'Add repository' }).click();
  const dialog = page.getByRole('dialog', { name: 'Add repository' });
  await dialog.getByRole('button', { name: 'Add repository' }).click();
  await dialog.getByText(/URL is required/i).waitFor();
  await dialog.getByLabel('URL').fill(makeOrigin(mesh.dir));
  await dialog.getByLabel('URL').press('Enter');
  await page.getByRole('heading', { level: 1, name: 'orchard' }).waitFor();
  await page.getByRole('main').getByText('Ready', { exact: true }).waitFor();
  await page.getByRole('tabpanel').getByText('harvest').waitFor();
  await list(page)
    .getByRole('link', { name: /^orchard/ })
    .waitFor();
  expect(me.complaints.all).toEqual([]);
});

test('the key `c` opens the dialog, Ctrl+Enter creates, and the stages are there', async () => {
  const { page } = me;
  await page.keyboard.press('c');
  const dialog = page.getByRole('dialog', { name: 'New task' });
  await dialog.getByLabel('Prompt').press('Control+Enter');
  await dialog.getByText('Describe what should be done.').waitFor();
  await dialog.getByLabel('Prompt').fill('replace Hello with Good day in src/greeting.txt\nsay the orchard is polite now');
  await dialog.getByLabel('Prompt').press('Control+Enter');
  await provisioning(page).waitFor();
  await provisioning(page)
    .getByText(/^Provisioned in/)
    .waitFor();
  await provisioning(page)
    .getByRole('button', { name: /^Provisioned in/ })
    .click();
  expect(await provisioning(page).getByRole('listitem').count()).toBe(STAGES.length);
  for (const name of STAGES) await stage(page, name).first().getByRole('img', { name: 'Done' }).waitFor();
  await shows(page, 'the orchard is polite now');
  await isState(page, 'Idle');
  expect(me.complaints.all).toEqual([]);
});

test('a message is answered, and a tool call shows what it did', async () => {
  const { page } = me;
  await send(page, 'run ls src');
  await transcript(page).getByRole('group', { name: 'Tool call: Run' }).getByText('greeting.txt').waitFor();
  await send(page, 'say how do you do');
  await said(page).getByText('how do you do').waitFor();
  await isState(page, 'Idle');
  expect(me.complaints.all).toEqual([]);
});

test('a permission is allowed by a button and rejected by a key, and the transcript says who answered what', async () => {
  const { page } = me;
  const dock = page.getByRole('region', { name: 'The agent is asking for permission' });
  await send(page, 'ask before running `cat src/greeting.txt`. Then say it was read');
  await dock.waitFor();
  await row(page, 'Good day').getByText('Needs an answer').waitFor();
  await dock.getByRole('button', { name: /^Allow once/ }).click();
  await shows(page, 'it was read');
  await dock.waitFor({ state: 'hidden' });
  await transcript(page).getByText('Good day, orchard.').last().waitFor();
  const questions = transcript(page).getByRole('group', { name: 'Permission request' });
  await questions
    .first()
    .getByText(/Allow once · you/i)
    .waitFor();
  await send(page, 'ask before running `cat README.md`. Then say it was left alone');
  await dock.waitFor();
  await dock.getByRole('button').first().focus();
  const reject = dock.getByRole('button', { name: /^Reject/ });
  const key = /(\d)\s*$/.exec(await reject.innerText())?.[1] ?? '';
  await page.keyboard.press(key);
  await shows(page, 'it was left alone');
  await questions
    .last()
    .getByText(/Reject.* · you/i)
    .waitFor();
  expect(await transcript(page).getByText('Counts apples').count()).toBe(0);
  expect(me.complaints.all).toEqual([]);
});

test('a task gets another title here, in the list and in the window', async () => {
  const { page } = me;
  await page.getByRole('button', { name: 'Rename the task' }).click();
  await page.getByLabel('Task title').fill('Politeness of the orchard');
  await page.getByLabel('Task title').press('Enter');
  await title(page).getByText('Politeness of the orchard').waitFor();
  await row(page, 'Politeness of the orchard').waitFor();
  await expect.poll(async () => await page.title()).toContain('Politeness of the orchard');
  expect(me.complaints.all).toEqual([]);
});

test('a second session begins beside the first, both are tabs, and each has words of its own', async () => {
  const { page } = me;
  const tabs = page.getByRole('tablist', { name: 'Sessions' }).getByRole('tab');
  await page.getByRole('button', { name: 'New session' }).click();
  const form = page.getByRole('dialog').filter({ hasText: 'Start session' });
  await form.getByLabel('Name').fill('second opinion');
  await form.getByRole('button', { name: 'Start session' }).click();
  await page.getByRole('tab', { name: 'second opinion', selected: true }).waitFor();
  expect(await tabs.count()).toBe(2);
  await send(page, 'say from the second session');
  await shows(page, 'from the second session');
  await tabs.first().click();
  await shows(page, 'it was left alone');
  expect(await transcript(page).getByText('from the second session').count()).toBe(0);
  await page.reload();
  await shows(page, 'it was left alone');
  await tabs.nth(1).click();
  await shows(page, 'from the second session');
  await page.getByRole('button', { name: 'Session menu' }).click();
  await page.getByRole('menuitem', { name: 'Close session…' }).click();
  await confirm(page, 'Close this session?', 'Close session');
  await page.getByText('This session is closed. Its transcript stays readable.').waitFor();
  await shows(page, 'from the second session');
  expect(me.complaints.all).toEqual([]);
});

test('a task is archived after a question, leaves the list and stays readable', async () => {
  const { page } = me;
  await isState(page, 'Idle');
  await act(page, 'Archive…');
  await page.getByRole('dialog', { name: 'Archive this task?' }).getByRole('button', { name: 'Cancel' }).click();
  await isState(page, 'Idle');
  await act(page, 'Archive…');
  await confirm(page, 'Archive this task?', 'Archive');
  await isState(page, 'Archived');
  await row(page, 'Politeness of the orchard').waitFor({ state: 'hidden' });
  await page.reload();
  await isState(page, 'Archived');
  await page.getByText('Politeness of the orchard').first().waitFor();
  expect(await composer(page).count()).toBe(0);
  expect(me.complaints.all).toEqual([]);
});

test('a task is killed in the middle of a turn after a question', async () => {
  const { page } = me;
  await createByKeyboard(page, 'say it hangs\nhang');
  await shows(page, 'it hangs');
  await act(page, 'Kill…');
  await confirm(page, 'Kill this task?', 'Kill task');
  await isState(page, 'Killed');
  await page.getByText('This task has ended.').waitFor();
  await shows(page, 'it hangs');
  expect(me.complaints.all).toEqual([]);
});

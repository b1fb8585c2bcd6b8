/** An agent's offer: settings are changed while it runs, commands completed, forms filled in. */
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { launch, signIn } from './browser';
import { Mesh } from './mesh';
import { type Newcomer, newcomer } from './page';
import { addRepository, composer, createTask, openTask, said, send, shows, transcript } from './workbench';

let mesh: Mesh;
let browser: Browser;
let me: Newcomer;
let page: Page;

beforeAll(async () => {
  mesh = await Mesh.start();
  addRepository(mesh, 'alice');
  browser = await launch();
  me = await newcomer(browser);
  page = me.page;
  await signIn(page, mesh, 'alice');
  await openTask(page, mesh, createTask(mesh, 'title: A quiet talk\nuse 50000 tokens\nsay ready', ['--allow', '--effort', 'high']));
  await shows(page, 'ready');
});

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
});

/** A setting of the agent. */
const setting = (name: string) => page.getByRole('combobox', { name, exact: true });
/** Waits until no setting is pending at the agent. */
const applied = () => page.getByRole('group', { name: 'Agent settings' }).getByText('applying…').waitFor({ state: 'hidden' });
/** Why a setting was refused. */
const problem = () => page.getByRole('group', { name: 'Agent settings' }).getByText(/this model is locked/);

test('what was chosen at the start holds, and the session tells its title, its context and its cost', async () => {
  await expect.poll(async () => await setting('Effort').inputValue(), { timeout: 30_000 }).toBe('high');
  await page.getByRole('tab', { name: 'A quiet talk' }).waitFor();
  await page.getByText(/Context 25 %/).waitFor();
  expect(await page.getByText(/Context 25 %/).innerText()).toContain('$0.50');
});

test('another model is chosen while a turn runs and is heard at once, and a refusal says why', async () => {
  // The turn continues only after the form is answered; without the pattern, lower-case letters would be accepted
  // too.
  await send(page, 'ask for a form\nsay can you hear me');
  const card = page.getByRole('region', { name: 'The agent is asking a question' });
  await card.waitFor();
  await setting('Model').selectOption('demo-loud');
  await applied();
  await card.getByRole('button', { name: 'Decline' }).click();
  await said(page)
    .getByText(/CAN YOU HEAR ME/)
    .waitFor();
  await card.waitFor({ state: 'hidden' });
  await setting('Model').selectOption('demo-locked');
  await problem().waitFor();
  expect(await setting('Model').inputValue()).toBe('demo-loud');
  await setting('Model').selectOption('demo');
  await expect.poll(async () => await problem().count(), { timeout: 30_000 }).toBe(0);
  await applied();
  expect(await setting('Model').inputValue()).toBe('demo');
});

test('a command is completed with the keyboard, and its form is filled in and told in the transcript', async () => {
  await composer(page).pressSequentially('/fo');
  await page.getByRole('option', { name: /form/ }).waitFor();
  await composer(page).press('Tab');
  expect(await composer(page).inputValue()).toBe('/form ');
  await composer(page).press('Enter');
  const card = page.getByRole('region', { name: 'The agent is asking a question' });
  await card.waitFor();
  await card.getByRole('button', { name: 'Send answer' }).click();
  await card.getByText('This field is required').waitFor();
  await page.reload();
  await card.getByRole('textbox', { name: /Release name/ }).fill('Bergamot');
  await card.getByRole('combobox', { name: /Kind/ }).selectOption('patch');
  await card.getByRole('checkbox', { name: 'docs' }).check();
  await card.getByRole('button', { name: 'Send answer' }).click();
  await said(page)
    .getByText(/name = "Bergamot".*kind = "patch".*areas = \["docs"\]/)
    .waitFor();
  await transcript(page).getByRole('group', { name: 'Question from the agent' }).getByText('Kind: Patch: bug fixes').waitFor();
  await card.waitFor({ state: 'hidden' });
  expect(me.complaints.all).toEqual([]);
});

test('what the command line chooses and fills in is seen in the page', async () => {
  const shown = mesh.cli('task', 'list', '--output', 'json');
  const task = /"taskId":\s*"(task_[0-9a-f]+)"/.exec(shown)?.[1] ?? '';
  const session = /"sessionId":\s*"(ses_[0-9a-f]+)"/.exec(mesh.cli('task', 'show', task, '--output', 'json'))?.[1] ?? '';
  const output = mesh.cli('session', 'show', session);
  for (const word of ['demo-loud', '/form', '50000 of 200000 tokens (25 %)', 'A quiet talk']) expect(output).toContain(word);
  mesh.cli('session', 'set', session, 'mode', 'careful');
  await expect.poll(async () => await setting('Mode').inputValue(), { timeout: 30_000 }).toBe('careful');
  await send(page, 'ask for a form');
  await page.getByRole('region', { name: 'The agent is asking a question' }).waitFor();
  mesh.cli('session', 'fill', session, 'name=Mandarin', 'kind=major');
  await said(page)
    .getByText(/name = "Mandarin"/)
    .waitFor();
  expect(me.complaints.all).toEqual([]);
});

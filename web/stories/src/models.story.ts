/** Models in the browser: a provider is added and tested, a profile made, offered for a task, and both removed. */
import type { Browser, Locator, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { rests, wrongs } from './axe';
import { type Complaints, launch, signIn } from './browser';
import { Mesh } from './mesh';
import { confirm, newcomer } from './page';
import { addRepository } from './workbench';

/** An address of this machine where nothing listens. */
const NOBODY = 'http://127.0.0.1:9';
const KEY = 'sk-never-to-be-seen-0123456789wxyz';

let mesh: Mesh;
let browser: Browser;
let page: Page;
let complaints: Complaints;

beforeAll(async () => {
  mesh = await Mesh.start();
  addRepository(mesh, 'alice');
  browser = await launch();
  ({ page, complaints } = await newcomer(browser, { reducedMotion: 'reduce' }));
  await signIn(page, mesh, 'alice');
});

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
});

function entry(list: string, name: string): Locator {
  return page.getByRole('list', { name: list }).getByRole('listitem').filter({ hasText: name });
}

async function openDialog(name: string): Promise<Locator> {
  await page.getByRole('button', { name }).click();
  const dialog = page.getByRole('dialog', { name });
  await dialog.waitFor();
  return dialog;
}

async function choose(dialog: Locator, field: string, option: string): Promise<void> {
  await dialog.getByRole('combobox', { name: field }).click();
  await page.getByRole('option', { name: option, exact: true }).click();
}

test('the menu of the organization leads to the models, of which there are none yet', async () => {
  await page.getByRole('button', { name: /^Organization / }).click();
  await page.getByRole('menuitem', { name: 'Models' }).click();
  await page.waitForURL(/\/o\/org_[0-9a-f]+\/models$/);
  await page.getByRole('heading', { level: 1, name: 'Models' }).waitFor();
  await page.getByText('No model providers yet').waitFor();
  await page.getByText('No agent profiles yet').waitFor();
});

test('a provider is added with its key, of which only the end is seen again', async () => {
  const dialog = await openDialog('Add model provider');
  expect(await dialog.getByLabel('Address').inputValue()).toBe('https://api.anthropic.com');
  await dialog.getByLabel('Name').fill('nobody');
  await dialog.getByLabel('Address').fill(NOBODY);
  await dialog.getByLabel('Key', { exact: true }).fill(KEY);
  await dialog.getByLabel(/^Models/).fill('model-one, model-two');
  await dialog.getByLabel(/^Models/).press('Enter');
  await dialog.waitFor({ state: 'hidden' });
  const shown = entry('Model providers', 'nobody');
  await shown.getByText('…wxyz').waitFor();
  await shown.getByText('model-one, model-two').waitFor();
  expect(await page.content()).not.toContain(KEY);
});

test('a test of a host that does not answer says so, and what to do', async () => {
  await page.getByRole('button', { name: 'Test nobody' }).click();
  const shown = entry('Model providers', 'nobody');
  await shown.getByText(/The host does not answer/).waitFor();
  await shown.getByText('Host', { exact: true }).waitFor();
  await shown.getByText(/^Check the base URL/).waitFor();
});

test('a change keeps the key unless another one is entered', async () => {
  const shown = entry('Model providers', 'nobody');
  const change = async (fill: (dialog: Locator) => Promise<void>) => {
    const dialog = await openDialog('Change nobody');
    expect(await dialog.getByLabel('New key').inputValue()).toBe('');
    await fill(dialog);
    await dialog.getByRole('button', { name: 'Change model provider' }).click();
    await dialog.waitFor({ state: 'hidden' });
  };
  await change(async (dialog) => await dialog.getByLabel(/^Models/).fill('model-two, model-three'));
  await shown.getByText('model-two, model-three').waitFor();
  await shown.getByText('…wxyz').waitFor();
  await change(async (dialog) => await dialog.getByLabel('New key').fill('sk-another-0123456789-end1'));
  await shown.getByText('…end1').waitFor();
  expect(await page.content()).not.toContain('sk-another');
});

test('a profile is made of an agent, the provider and one of its models', async () => {
  const dialog = await openDialog('Add agent profile');
  await dialog.getByLabel('Name').fill('night');
  await choose(dialog, 'Agent', 'Claude Code');
  expect(await dialog.getByRole('combobox', { name: 'Model provider' }).inputValue()).toBe('nobody');
  await choose(dialog, 'Model (optional)', 'model-two');
  await dialog.getByText('Allow all').click();
  await dialog.getByLabel('Default of the organization').check();
  await dialog.getByRole('button', { name: 'Add agent profile' }).click();
  await dialog.waitFor({ state: 'hidden' });
  const shown = entry('Agent profiles', 'night');
  for (const fact of ['default', 'claude', 'nobody', 'model-two', 'allow all']) await shown.getByText(fact, { exact: true }).waitFor();
});

test.each(['light', 'dark'] as const)('axe finds nothing in the page when it is %s', async (colorScheme) => {
  await page.emulateMedia({ colorScheme });
  await rests(page, colorScheme);
  expect(await wrongs(page, false)).toEqual([]);
});

test('the profile is offered for a new task, chosen already as the default', async () => {
  await page.getByRole('heading', { level: 1 }).click(); // out of any field
  await page.keyboard.press('c');
  const dialog = page.getByRole('dialog', { name: 'New task' });
  const field = dialog.getByRole('combobox', { name: 'Agent or profile' });
  await expect.poll(async () => await field.inputValue()).toBe('night (claude, model-two)');
  expect(await dialog.getByRole('radio', { name: 'Allow all' }).isChecked()).toBe(true);
  await choose(dialog, 'Agent or profile', 'Demo agent');
  expect(await dialog.getByRole('radio', { name: 'Ask me' }).isChecked()).toBe(true);
  await choose(dialog, 'Agent or profile', 'night (claude, model-two)');
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  await dialog.waitFor({ state: 'hidden' });
});

test('the provider stays as long as the profile uses it; then both go', async () => {
  await page.getByRole('button', { name: 'Remove nobody' }).click();
  const dialog = page.getByRole('dialog', { name: 'Remove nobody?' });
  await dialog.getByRole('button', { name: 'Remove model provider' }).click();
  await dialog.getByText('MODEL_PROVIDER_IN_USE', { exact: true }).waitFor();
  await dialog.getByText(/is used by these agent profiles: night/).first().waitFor();
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  await page.getByRole('button', { name: 'Remove night' }).click();
  await confirm(page, 'Remove night?', 'Remove agent profile');
  await page.getByText('No agent profiles yet').waitFor();
  await page.getByRole('button', { name: 'Remove nobody' }).click();
  await confirm(page, 'Remove nobody?', 'Remove model provider');
  await page.getByText('No model providers yet').waitFor();
  expect(complaints.all).toEqual([]);
});

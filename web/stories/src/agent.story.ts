/**
 * From a private repository to an open pull request with green checks, with a real agent: Gemini CLI, the one that the
 * Rust tests fetch too, on a scripted model.
 */
import { dirname, join } from 'node:path';
import { binary } from '@foundry/testing';
import type { Locator, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { found, partsWith } from './canary';
import { journey, TOKEN } from './journey';
import { ScriptedModel } from './scriptedModel';

/** Looks different in a URL, in JSON and in base64. */
const KEY = 'sk-canary/gemini+0123456789%keyz';
/** The agent's packages, where the Rust tests keep them: the first run on a machine takes minutes to fetch them. */
const TOOLS = join(dirname(binary()), '../tmp/tools');

let model: ScriptedModel;

beforeAll(async () => {
  model = await ScriptedModel.start();
});

afterAll(async () => {
  await model?.close();
});

async function choose(dialog: Locator, field: string, option: string): Promise<void> {
  await dialog.getByRole('combobox', { name: field }).click();
  await dialog.page().getByRole('option', { name: option, exact: true }).click();
}

/** Opens a dialog of the page of models, and sends it once it is filled in. */
async function add(page: Page, what: string, fill: (dialog: Locator) => Promise<void>): Promise<void> {
  await page.getByRole('button', { name: what }).click();
  const dialog = page.getByRole('dialog', { name: what });
  await fill(dialog);
  await dialog.getByRole('button', { name: what }).click();
  await dialog.waitFor({ state: 'hidden' });
}

/** Adds the model provider with its key, and a profile for all tasks. */
async function setUp(page: Page): Promise<void> {
  await page.getByRole('button', { name: /^Organization / }).click();
  await page.getByRole('menuitem', { name: 'Models' }).click();
  await add(page, 'Add model provider', async (dialog) => {
    await choose(dialog, 'Kind', 'Gemini');
    await dialog.getByLabel('Name').fill('scripted');
    await dialog.getByLabel('Base URL').fill(model.url);
    await dialog.getByLabel('Key', { exact: true }).fill(KEY);
  });
  await page.getByText('…keyz').waitFor();
  await add(page, 'Add agent profile', async (dialog) => {
    await dialog.getByLabel('Name').fill('gemini');
    await choose(dialog, 'Agent', 'Gemini CLI');
    await dialog.getByLabel('Model (optional)').fill('scripted-1');
    await dialog.getByText('Allow all').click();
    await dialog.getByLabel('Default for the organization').check();
  });
  await page.getByRole('list', { name: 'Agent profiles' }).getByText('default', { exact: true }).waitFor();
  expect(await partsWith(page, KEY)).toEqual([]);
}

journey({
  settings: [`provisioner.tools_cache=${TOOLS}`],
  choose: setUp,
  prompt: (steps) => `Write the guide. ${model.script(steps)}`,
  mark: 'gemini',
  secrets: [KEY],
  patience: 600_000,
});

test('the model was asked with its key, and no secret is in what it was asked', () => {
  const asked = model.requests();
  expect(asked.length).toBeGreaterThanOrEqual(3); // one for each step
  expect([...new Set(asked.map(({ key }) => key))]).toEqual([KEY]);
  const texts = asked.map(({ body }) => JSON.stringify(body));
  expect(texts.some((text) => text.includes('Pick the ripe ones.'))).toBe(true);
  for (const secret of [KEY, TOKEN]) expect(texts.filter((text) => found(text, secret))).toEqual([]);
});

/** An access token is created in the page, used by `foundry` without a sign-in, revoked in the page, and refused. */
import { spawnSync } from 'node:child_process';
import { binary } from '@foundry/testing';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { rests, wrongs } from './axe';
import { type Complaints, launch, signIn } from './browser';
import { Mesh } from './mesh';
import { confirm, newcomer } from './page';

/** A mesh where programs have nothing but a token. */
class TokenMesh extends Mesh {
  static async withTokens(): Promise<TokenMesh> {
    return await new TokenMesh({ settings: [], env: {} }).begin();
  }

  /** Runs `foundry` with a token, and not signed in. */
  by(token: string, ...args: string[]): { code: number | null; out: string; err: string } {
    const env = { ...this.environment(), FOUNDRY_TOKEN: token };
    const done = spawnSync(binary(), args, { env, encoding: 'utf8', timeout: 120_000 });
    return { code: done.status, out: done.stdout, err: done.stderr };
  }
}

let mesh: TokenMesh;
let browser: Browser;
let page: Page;
let complaints: Complaints;
let token = '';

beforeAll(async () => {
  mesh = await TokenMesh.withTokens();
  browser = await launch();
  ({ page, complaints } = await newcomer(browser, { reducedMotion: 'reduce' }));
  await signIn(page, mesh, 'alice');
});

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
});

async function isAccessible(): Promise<void> {
  for (const colorScheme of ['dark', 'light'] as const) {
    await page.emulateMedia({ colorScheme });
    await rests(page, colorScheme);
    expect(await wrongs(page, false)).toEqual([]);
  }
}

test('the menu of the account leads to the access tokens, of which there are none yet', async () => {
  await page.getByRole('button', { name: 'Account of alice' }).click();
  await page.getByRole('menuitem', { name: /^Access tokens/ }).click();
  await page.waitForURL(/\/o\/org_[0-9a-f]+\/tokens$/);
  await page.getByText('No access tokens', { exact: true }).waitFor();
  await isAccessible();
});

test('a token is created with the keyboard alone, and its value is shown once', async () => {
  await page.getByRole('button', { name: 'Create access token' }).press('Enter');
  const form = page.getByRole('dialog', { name: 'Create access token' });
  await expect.poll(async () => await form.getByLabel('Name').evaluate((it) => it === document.activeElement)).toBe(true);
  await isAccessible();
  await page.keyboard.type('laptop');
  await page.keyboard.press('Enter');
  const dialog = page.getByRole('dialog', { name: 'Access token laptop' });
  const command = await dialog.getByText(/^export FOUNDRY_TOKEN=fpat_/).innerText();
  token = command.replace('export FOUNDRY_TOKEN=', '');
  await isAccessible();
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'hidden' });
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]));
  expect((await page.content()) + kept).not.toContain(token);
  await page.getByRole('list', { name: 'Access tokens' }).getByText('laptop').waitFor();
});

test('a program that has it, and nothing else, acts as its owner', async () => {
  const listed = mesh.by(token, 'token', 'list', '--output', 'json');
  expect(listed.err).toBe('');
  expect(listed).toMatchObject({ code: 0, out: expect.stringContaining('"laptop"') });
});

test('once it is revoked, the program is refused', async () => {
  await page.getByRole('button', { name: 'Revoke laptop' }).click();
  await confirm(page, 'Revoke laptop?', 'Revoke access token');
  await page.getByText('Revoked and expired (1)').click();
  await page.getByRole('list', { name: 'Revoked and expired' }).getByText('laptop').waitFor();
  const refused = mesh.by(token, 'token', 'list');
  expect(refused.err).toContain('TOKEN_REVOKED');
  expect(refused.code).not.toBe(0);
  await isAccessible();
  expect(complaints.all).toEqual([]);
});

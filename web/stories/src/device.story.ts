/** `foundry login` by device code and by browser, confirmed in a real browser; and the list in which it is ended again. */
import { type ChildProcess, spawn } from 'node:child_process';
import { binary } from '@foundry/testing';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { rests, wrongs } from './axe';
import { type Complaints, launch, signIn } from './browser';
import { Mesh } from './mesh';
import { confirm, newcomer } from './page';

/** A mesh with programs that wait for their user. */
class ProgramMesh extends Mesh {
  static async withPrograms(): Promise<ProgramMesh> {
    return await new ProgramMesh({ settings: [], env: {} }).begin();
  }

  /** Begins `foundry login`. */
  login(...how: string[]): Login {
    return new Login(spawn(binary(), ['login', ...how], { env: this.environment(), stdio: ['ignore', 'pipe', 'pipe'] }));
  }
}

/** `foundry login` in progress. */
class Login {
  private said = '';
  readonly ended: Promise<number | null>;

  constructor(child: ChildProcess) {
    child.stdout?.on('data', (part) => (this.said += String(part)));
    child.stderr?.on('data', (part) => (this.said += String(part)));
    this.ended = new Promise((resolve) => child.once('close', resolve));
  }

  /** Waits until it has said this; the part in parentheses. */
  async says(pattern: RegExp): Promise<string> {
    await expect.poll(() => this.said, { timeout: 20_000 }).toMatch(pattern);
    return pattern.exec(this.said)?.[1] ?? '';
  }
}

let mesh: ProgramMesh;
let browser: Browser;
let page: Page;
let complaints: Complaints;

beforeAll(async () => {
  mesh = await ProgramMesh.withPrograms();
  browser = await launch();
  ({ page, complaints } = await newcomer(browser, { reducedMotion: 'reduce' }));
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

test('who is not signed in signs in first, types the code with the keyboard alone, and the program is signed in', async () => {
  const login = mesh.login('--device');
  const address = await login.says(/Open (\S+) in a browser/);
  const code = await login.says(/the code (\S+)/);
  await page.goto(address);
  await page.waitForURL(/\/sign-in$/);
  await signIn(page, mesh, 'alice');
  await page.goto(address);
  const field = page.getByRole('textbox', { name: 'Code' });
  await expect.poll(async () => await field.evaluate((it) => it === document.activeElement)).toBe(true);
  await isAccessible();
  await page.keyboard.type('BBBB-BBBB');
  await page.keyboard.press('Enter');
  await page.getByText('USER_CODE_UNKNOWN', { exact: true }).waitFor();
  await field.fill(code.toLowerCase().replace('-', ' '));
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: /^Sign in foundry on .+\?$/ }).waitFor();
  await page.getByText('127.0.0.1', { exact: true }).waitFor();
  await page.locator('dd').getByText('alice', { exact: true }).waitFor();
  await isAccessible();
  await page.getByRole('button', { name: 'Sign in', exact: true }).press('Enter');
  await page.getByRole('heading', { name: 'The program is signed in' }).waitFor();
  await isAccessible();
  expect(await login.ended).toBe(0);
  const who = mesh.cli('whoami');
  expect(who).toMatch(/^user\s+alice$/m);
  expect(who).toContain('by device code');
});

test('its session is in the list, and once it is ended the program is refused', async () => {
  await page.getByRole('link', { name: 'Go to your tasks' }).click();
  await page.getByRole('button', { name: 'Account of alice' }).click();
  await page.getByRole('menuitem', { name: /^Devices and sessions/ }).click();
  await page.waitForURL(/\/o\/org_[0-9a-f]+\/sessions$/);
  const list = page.getByRole('list', { name: 'Sessions' });
  await list.getByText('Chrome on Linux', { exact: true }).waitFor();
  await list.getByText('This browser', { exact: true }).waitFor();
  await isAccessible();
  const end = list.getByRole('button', { name: /^End foundry on / });
  const device = (await end.getAttribute('aria-label'))?.replace('End ', '');
  await end.click();
  await confirm(page, `End the session of ${device}?`, 'End session');
  await end.waitFor({ state: 'hidden' });
  expect(() => mesh.cli('whoami')).toThrow(/TOKEN_REVOKED/);
});

test('a browser on the same machine brings the sign-in back to the program', async () => {
  const login = mesh.login('--browser');
  const address = await login.says(/^ {2}(\S+)$/m);
  await page.goto(address);
  await page.getByRole('button', { name: 'Sign in', exact: true }).click();
  await page.waitForURL(/^http:\/\/127\.0\.0\.1:\d+\/\?code=/);
  await page.getByText('You are signed in. You can close this tab and go back to the terminal.').waitFor();
  expect(await login.ended).toBe(0);
  expect(mesh.cli('whoami')).toContain('by browser');
});

test('a program that was denied gets nothing', async () => {
  const login = mesh.login('--device');
  const code = await login.says(/the code (\S+)/);
  await page.goto(`${mesh.url}/device`);
  await page.getByRole('textbox', { name: 'Code' }).fill(code);
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.getByRole('button', { name: 'Deny' }).click();
  await page.getByRole('heading', { name: 'The program was denied' }).waitFor();
  await login.says(/(SIGN_IN_DENIED)/);
  expect(await login.ended).not.toBe(0);
  expect(complaints.all).toEqual([]);
});

/** A provider that is slow, hangs and fails: the page shows the stage, the time, the reason, and what can be done. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { launch, signIn } from './browser';
import { FAULT_BY_DEFAULT, Mesh } from './mesh';
import { act, confirm, createByKeyboard, isState, type Newcomer, newcomer, provisioning, row, stage } from './page';
import { addRepository, composer, said, send, transcript } from './workbench';

const directory = mkdtempSync(join(tmpdir(), 'foundry-faults-'));
let mesh: Mesh;
let browser: Browser;
let me: Newcomer;

/** Calls of the provider, each a stage, in order, with the names on the page. */
const STAGES = [
  ['allocate', 'Allocate sandbox'],
  ['prepare_repo', 'Prepare repository'],
  ['install_agent', 'Install agent'],
  ['start_agent', 'Start agent'],
] as const;

/** Writes a file that makes calls of the provider hang, or fail (`text` = how many). */
function plant(call: string, fault: 'hang' | 'fail', text = ''): void {
  writeFileSync(join(directory, `${call}.${fault}`), text);
}

/** Lets the calls continue. */
function mend(call: string, fault: 'hang' | 'fail'): void {
  rmSync(join(directory, `${call}.${fault}`), { force: true });
}

beforeAll(async () => {
  mesh = await Mesh.start(FAULT_BY_DEFAULT, directory);
  addRepository(mesh, 'alice');
  browser = await launch();
  me = await newcomer(browser);
  await signIn(me.page, mesh, 'alice');
});

afterEach(() => {
  for (const [call] of STAGES) {
    for (const fault of ['hang', 'fail'] as const) mend(call, fault);
  }
});

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
  rmSync(directory, { recursive: true, force: true });
});

/** Records each stage that the page shows as running, in order, from now on. */
async function noteStages(page: Page): Promise<() => Promise<string[]>> {
  await page.evaluate(() => {
    const seen: string[] = [];
    Object.assign(window, { seenStages: seen });
    const look = () => {
      for (const row of document.querySelectorAll('section[aria-label="Provisioning"] li')) {
        const working = row.querySelector('[role="img"][aria-label="Running"], [role="img"][aria-label="Waiting"]') !== null;
        const name = row.textContent?.match(/^(Allocate sandbox|Prepare repository|Install agent|Start agent)/)?.[0];
        if (working && name !== undefined && !seen.includes(name)) seen.push(name);
      }
    };
    new MutationObserver(look).observe(document.body, { subtree: true, childList: true, attributes: true });
  });
  return async () => await page.evaluate(() => (window as unknown as { seenStages: string[] }).seenStages);
}

test('each stage of a slow provider is seen at work with its time, one after the other', async () => {
  const { page } = me;
  for (const [call] of STAGES) plant(call, 'hang');
  const seen = await noteStages(page);
  await createByKeyboard(page, 'say slow but sure');
  const begun: string[] = [];
  for (const [call, name] of STAGES) {
    const working = stage(page, name);
    await working.getByRole('img', { name: /^(Running|Waiting)$/ }).waitFor();
    await working.getByText(/^\d+ s$/).waitFor();
    begun.push(name);
    expect(await seen()).toEqual(begun);
    // The stage ends only when the page has shown it, however long that takes.
    mend(call, 'hang');
  }
  await row(page, 'slow but sure').waitFor();
  await said(page).getByText('slow but sure').waitFor();
  expect(me.complaints.all).toEqual([]);
});

test('a stage that hangs says for how long and until when, its messages and sessions wait, and all is done when it goes on', async () => {
  const { page } = me;
  plant('allocate', 'hang');
  await createByKeyboard(page, 'say first words');
  const hanging = stage(page, 'Allocate sandbox');
  await hanging.getByRole('img', { name: 'Running' }).waitFor();
  await hanging.getByText(/^(([3-9]|[1-9]\d) s|\d+ min.*)$/).waitFor();
  await provisioning(page)
    .getByText(/waiting on/)
    .waitFor();
  await provisioning(page)
    .getByText(/times out in/)
    .waitFor();
  await send(page, 'say second words');
  const waiting = page.getByRole('region', { name: 'Queued messages' });
  await waiting.getByText('say second words').waitFor();
  await waiting.getByText(/for the session to be ready/).waitFor();
  const tab = page.getByRole('tab', { selected: true }).and(page.locator('[role="tablist"][aria-label="Sessions"] *'));
  await tab.getByRole('img', { name: 'Waiting for sandbox' }).waitFor();
  await page.getByRole('button', { name: 'New session' }).click();
  await page.getByRole('dialog').getByLabel('Name').fill('beside');
  await page.getByRole('dialog').getByRole('button', { name: 'Start session' }).click();
  const beside = page.getByRole('tab', { name: /beside/ });
  await beside.getByRole('img', { name: 'Waiting for sandbox' }).waitFor();
  await page.getByRole('tab', { name: /beside/, selected: true }).waitFor();
  await send(page, 'say words aside');
  await page.reload();
  await waiting.getByText('say words aside').waitFor();
  mend('allocate', 'hang');
  await said(page).getByText('words aside').waitFor();
  await page.getByRole('tablist', { name: 'Sessions' }).getByRole('tab').first().click();
  await said(page).getByText('second words').waitFor();
  const words = (await said(page).allInnerTexts()).join(' ');
  expect(words.indexOf('first words')).toBeLessThan(words.indexOf('second words'));
  expect(words).not.toContain('words aside');
  await isState(page, 'Idle');
  expect(me.complaints.all).toEqual([]);
});

test('a task whose provider hangs is killed from the page', async () => {
  const { page } = me;
  plant('prepare_repo', 'hang');
  await createByKeyboard(page, 'say never heard');
  await stage(page, 'Prepare repository').getByRole('img', { name: 'Running' }).waitFor();
  await act(page, 'Kill…');
  const begun = Date.now();
  await confirm(page, 'Kill this task?', 'Kill task');
  await isState(page, 'Killed');
  console.log(`a task with a hanging stage is killed in ${Date.now() - begun} ms`);
  await page.getByText('This task has ended.').waitFor();
  expect(await composer(page).count()).toBe(0);
  mend('prepare_repo', 'hang');
  expect(me.complaints.all).toEqual([]);
});

test('a stage that fails shows attempt and reason while it is tried again, fails for good, and a retry goes on from there', async () => {
  const { page } = me;
  plant('install_agent', 'fail', '1000');
  await createByKeyboard(page, 'say it works after all');
  await provisioning(page).getByText('PLANTED_FAILURE').first().waitFor();
  await provisioning(page)
    .getByText(/attempt \d/)
    .first()
    .waitFor();
  await provisioning(page).getByRole('button', { name: 'Retry from this stage' }).waitFor({ timeout: 240_000 });
  await isState(page, 'Failed');
  await provisioning(page)
    .getByText(/planted failure of install_agent/i)
    .first()
    .waitFor();
  await stage(page, 'Prepare repository').getByRole('img', { name: 'Done' }).waitFor();
  await stage(page, 'Install agent').getByRole('img', { name: 'Failed' }).waitFor();
  mend('install_agent', 'fail');
  await provisioning(page).getByRole('button', { name: 'Retry from this stage' }).click();
  await said(page).getByText('it works after all').waitFor();
  await isState(page, 'Idle');
  expect(await transcript(page).getByText('PLANTED_FAILURE').count()).toBe(0);
  expect(me.complaints.all).toEqual([]);
}, 300_000); // the provisioner tries for more than a minute and a half before it gives up

/**
 * Files of the page that are missing, as after an upgrade of the server: the page reports it, keeps the rest, and
 * loads them later.
 */
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Complaints, launch, LOST_NETWORK, person } from './browser';
import { Mesh } from './mesh';
import { act, confirm, isState, panel, title } from './page';
import { addRepository, composer, createTask, openTask, said, send } from './workbench';

let mesh: Mesh;
let browser: Browser;
let task: string;

beforeAll(async () => {
  mesh = await Mesh.start();
  addRepository(mesh, 'alice');
  task = createTask(mesh, 'say the **very first** words');
  browser = await launch();
});

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
});

/** Makes files unavailable to a page; returns how to restore them. */
async function without(page: Page, names: RegExp): Promise<() => Promise<void>> {
  const asked: string[] = [];
  await page.route(names, (route) => {
    asked.push(route.request().url());
    return route.fulfill({ status: 404, body: '' });
  });
  return async () => {
    expect(asked).not.toEqual([]);
    await page.unroute(names);
  };
}

test('a task is read, talked with and ended while files of panels, dialogs and formatting are gone and come back', async () => {
  const { context, page } = await person(browser, mesh, 'alice');
  const complaints = new Complaints(page, LOST_NETWORK);
  const mend = await without(page, /\/assets\/(Changes|Files|Markdown|ConfirmDialog)-[^/]*\.(js|css)$/);
  await openTask(page, mesh, task);
  await title(page).waitFor();
  await said(page).getByText('the **very first** words').waitFor();
  await page.getByRole('alert').filter({ hasText: 'Messages are shown without their formatting' }).waitFor();
  await page
    .getByRole('alert')
    .filter({ hasText: 'The changes could not be loaded' })
    .getByText('PAGE_PART_MISSING', { exact: true })
    .waitFor();
  await send(page, 'say on it goes');
  await said(page).getByText('on it goes').waitFor();
  await isState(page, 'Idle');

  const tab = page.getByRole('tab', { name: /^Files/ });
  await tab.click();
  const missing = page.getByRole('alert').filter({ hasText: 'The files could not be loaded' });
  await missing.getByRole('button', { name: 'Reload the page' }).waitFor();
  expect(await tab.evaluate((it) => it === document.activeElement)).toBe(true);
  await act(page, 'Archive…');
  const message = page.getByRole('region', { name: 'Messages', exact: true });
  await message.getByText('The confirmation dialog could not be opened').waitFor();
  await expect.poll(() => page.getByRole('button', { name: 'More actions' }).evaluate((it) => it === document.activeElement)).toBe(true);
  await message.getByRole('button', { name: 'Close message' }).click();

  await mend();
  await missing.getByRole('button', { name: 'Try again' }).click();
  await (await panel(page, 'Files')).getByText('README.md').first().waitFor();
  expect(
    await page.evaluate(() =>
      [...document.querySelectorAll<HTMLLinkElement>('link[href*="/Files-"][rel=stylesheet]')].some((it) => it.sheet !== null),
    ),
  ).toBe(true);
  await composer(page).focus();
  await page.getByRole('alert').filter({ hasText: 'without their formatting' }).getByRole('button', { name: 'Try again' }).click();
  await said(page).locator('strong', { hasText: 'very first' }).waitFor();
  await act(page, 'Archive…');
  await confirm(page, 'Archive this task?', 'Archive');
  await isState(page, 'Archived');
  expect(complaints.all).toEqual([]);
  await context.close();
});

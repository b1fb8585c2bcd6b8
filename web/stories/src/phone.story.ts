/** The workbench on a phone of 390 pixels: one view at a time, nothing beyond the right edge. */
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { launch } from './browser';
import { Mesh } from './mesh';
import { isState, type Newcomer, newcomer, row, signInByForm } from './page';
import { addRepository, createTask, list, send, shows } from './workbench';

const WIDTH = 390;

let mesh: Mesh;
let browser: Browser;
let me: Newcomer;

beforeAll(async () => {
  mesh = await Mesh.start();
  addRepository(mesh, 'alice');
  createTask(
    mesh,
    `append src/greeting.txt: ${'apples and pears and '.repeat(20)}\nrun echo ${'word'.repeat(200)}\nsay a ${'long'.repeat(60)} word`,
  );
  browser = await launch();
  me = await newcomer(browser, { viewport: { width: WIDTH, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 });
});

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
});

/** Throws when the page can be scrolled sideways, and names what extends beyond the edge. */
async function fits(page: Page, where: string): Promise<void> {
  const wide = await page.evaluate((width) => {
    const over = document.scrollingElement?.scrollWidth ?? 0;
    if (over <= width && window.innerWidth <= width) return [];
    const out = [...document.querySelectorAll('body *')].filter((it) => it.getBoundingClientRect().right > width + 1);
    return [`${over} wide`, ...out.slice(0, 5).map((it) => `${it.tagName}.${it.className}`)];
  }, WIDTH);
  expect(wide, where).toEqual([]);
}

test('from sign-in over the list to a task, its panels and its dialogs, nothing scrolls sideways', async () => {
  const { page } = me;
  await page.goto(mesh.url);
  await page.waitForURL(/\/sign-in$/);
  await page.getByRole('form', { name: 'Sign in' }).waitFor();
  await fits(page, 'sign-in');
  await signInByForm(page, mesh.secret, 'alice');
  await row(page, 'long').or(row(page, 'apples')).first().waitFor();
  await fits(page, 'list');
  await list(page).getByRole('link').filter({ hasText: 'apples' }).first().tap();
  await shows(page, /a longlong/);
  await isState(page, 'Idle');
  await fits(page, 'task');
  for (const name of ['Changes', 'Files', 'Processes', 'Activity', 'Explain']) {
    await page.getByRole('tab', { name: new RegExp(`^${name}`) }).tap();
    await page
      .getByRole('tabpanel', { name: new RegExp(`^${name}`) })
      .getByRole('button')
      .or(page.getByRole('tree'))
      .first()
      .waitFor();
    await fits(page, name);
  }
  await page.getByRole('tab', { name: 'Chat' }).tap();
  await send(page, 'say from the phone');
  await shows(page, 'from the phone');
  await fits(page, 'talk');
  expect(me.complaints.all).toEqual([]);
});

test('the list is a drawer that opens by a button and closes when a task is chosen', async () => {
  const { page } = me;
  createTask(mesh, 'say the other task');
  expect(await list(page).count()).toBe(0);
  await page.getByRole('button', { name: 'Open the list of tasks' }).tap();
  await list(page).waitFor();
  await fits(page, 'drawer');
  await row(page, 'the other task').tap();
  await list(page).waitFor({ state: 'hidden' });
  await shows(page, 'the other task');
  await page.getByRole('button', { name: 'Open the list of tasks' }).tap();
  await list(page).waitFor();
  await page.keyboard.press('Escape');
  await list(page).waitFor({ state: 'hidden' });
  await page.getByRole('button', { name: 'Open the list of tasks' }).tap();
  await page.getByRole('button', { name: 'New task', exact: false }).first().tap();
  await page.getByRole('dialog', { name: 'New task' }).getByLabel('Prompt').waitFor();
  await fits(page, 'new task');
  expect(me.complaints.all).toEqual([]);
});

/** The mesh dies in the middle of a turn; the page recovers without help and shows every word once. */
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Complaints, launch, LOST_NETWORK, person } from './browser';
import { Mesh } from './mesh';
import { addRepository, createTask, openTask, said, words } from './workbench';

const WORDS = Array.from({ length: 160 }, (_, i) => `word${i + 1}`);

let mesh: Mesh;
let browser: Browser;
let page: Page;

beforeAll(async () => {
  mesh = await Mesh.start();
  addRepository(mesh, 'alice');
  browser = await launch();
  ({ page } = await person(browser, mesh, 'alice'));
});

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
});

/** Each word of the agent, as often as the transcript shows it. */
async function spoken(of: Page): Promise<string[]> {
  return (await said(of).allInnerTexts()).join(' ').match(/word\d+/g) ?? [];
}

for (const signal of ['kill', 'stop'] as const) {
  test(`after a ${signal} of the whole mesh in a turn the page goes on by itself, with no gap and nothing twice`, async () => {
    const complaints = new Complaints(page, LOST_NETWORK);
    const loads: string[] = [];
    page.on('framenavigated', (frame) => loads.push(frame.url()));
    const task = createTask(mesh, `slowly\nsay ${WORDS.join(' ')}`);
    await openTask(page, mesh, task);
    await said(page)
      .getByText(/word9\b/)
      .waitFor();
    loads.length = 0;
    await mesh[signal]();
    await page
      .getByText(/reconnecting/i)
      .first()
      .waitFor();
    await mesh.startAgain();
    await said(page)
      .getByText(/word160\b/)
      .waitFor({ timeout: 60_000 });
    await page
      .getByText(/reconnecting/i)
      .first()
      .waitFor({ state: 'hidden' });
    expect(await spoken(page)).toEqual(WORDS);
    expect(loads).toEqual([]);
    const recovered = await words(page);
    await page.reload();
    await said(page)
      .getByText(/word160\b/)
      .waitFor({ timeout: 60_000 });
    expect(await words(page)).toBe(recovered);
    expect(complaints.all).toEqual([]);
  });
}

/** The page brings its own fonts; late ones change nothing on the screen. */
import type { Browser, Page, Route } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Complaints, launch, person } from './browser';
import { Mesh } from './mesh';

let mesh: Mesh;
let browser: Browser;

beforeAll(async () => {
  mesh = await Mesh.start();
  browser = await launch();
});

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
});

/** The families of fonts that a text in the page is drawn with. */
async function families(page: Page, style: string): Promise<string[]> {
  await page.evaluate(
    (css) => {
      const probe = document.createElement('p');
      probe.id = 'probe';
      probe.textContent = 'Good day ├──';
      for (const [name, value] of Object.entries(css)) probe.style.setProperty(name, value);
      document.body.append(probe);
    },
    { 'font-family': style },
  );
  const session = await page.context().newCDPSession(page);
  await session.send('DOM.enable');
  await session.send('CSS.enable');
  const { root } = await session.send('DOM.getDocument');
  const { nodeId } = await session.send('DOM.querySelector', { nodeId: root.nodeId, selector: '#probe' });
  const drawn = async (): Promise<string[]> => {
    const { fonts } = await session.send('CSS.getPlatformFontsForNode', { nodeId });
    return fonts.map((font) => font.familyName).sort();
  };
  // The browser names no font until it has laid the text out; on a busy machine that is later than the question.
  await expect.poll(drawn).not.toEqual([]);
  const names = await drawn();
  await page.evaluate(() => document.getElementById('probe')?.remove());
  await session.detach();
  return names;
}

/** The size of everything in the page. */
async function sizes(page: Page): Promise<string[]> {
  return await page
    .locator('body *')
    .evaluateAll((all) => all.map((it) => `${it.tagName} ${it.getBoundingClientRect().width}x${it.getBoundingClientRect().height}`));
}

test('text and code are drawn with the fonts of the page, lines of tables too', async () => {
  const { context, page } = await person(browser, mesh, 'alice');
  const complaints = new Complaints(page);
  // A page that was delayed keeps the system fonts until it is reloaded.
  const chosen = async (): Promise<string | null> => {
    await page.reload();
    await page.getByRole('heading', { name: 'Add a repository to get started' }).waitFor();
    return await page.locator('html').getAttribute('data-fonts');
  };
  await expect.poll(chosen, { timeout: 60_000 }).toBe('own');
  expect(await families(page, 'var(--mantine-font-family)')).toContain('Inter');
  expect(await families(page, 'var(--mantine-font-family-monospace)')).toEqual(['Fira Code Light']);
  expect(complaints.all).toEqual([]);
  await context.close();
});

test('the page is there without its fonts, and when they come late no text changes', async () => {
  const { context, page } = await person(browser, mesh, 'bob');
  const held: Route[] = [];
  await context.route('**/*.woff2', (route) => void held.push(route));
  // The load event waits for fonts; the page does not.
  await page.reload({ waitUntil: 'commit' });
  await page.getByRole('heading', { name: 'Add a repository to get started' }).waitFor();
  const before = await sizes(page);
  const machine = await families(page, 'var(--mantine-font-family)');
  expect(held.length).toBeGreaterThan(0);
  await Promise.all(held.map((route) => route.continue()));
  await page.evaluate(async () => {
    await document.fonts.ready;
    await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  });
  expect(await page.evaluate(() => [...document.fonts].every((face) => face.status === 'loaded'))).toBe(true);
  expect(await families(page, 'var(--mantine-font-family)')).toEqual(machine);
  expect(await sizes(page)).toEqual(before);
  await context.close();
});

/** Every page and state of the workbench is accessible, as far as the rules of axe can tell. */
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { launch, signIn } from './browser';
import { Mesh } from './mesh';
import { rests, wrongs } from './axe';
import { type Everything, furnished, STEERED, states } from './axeStates';

let mesh: Mesh;
let browser: Browser;
let everything: Everything;
const pages = new Map<string, Page>();

beforeAll(async () => {
  mesh = await Mesh.start([], STEERED.directory);
  browser = await launch();
  everything = await furnished(mesh);
});

afterAll(async () => {
  await browser?.close();
  STEERED.release('install_agent');
  await mesh?.dispose();
  STEERED.remove();
});

/** A page of this width with a session, or without one (`nobody`). */
async function pageOf(width: number, nobody: boolean): Promise<Page> {
  const name = `${width}${nobody ? ' nobody' : ''}`;
  const known = pages.get(name);
  if (known) return known;
  const context = await browser.newContext({ viewport: { width, height: 844 }, reducedMotion: 'reduce' });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  if (!nobody) await signIn(page, mesh, 'alice');
  pages.set(name, page);
  return page;
}

describe.each([1280, 390])('at %i pixels', (width) => {
  for (const state of states(() => everything)) {
    test(state.name, async () => {
      const page = await pageOf(width, state.nobody === true);
      await page.emulateMedia({ colorScheme: 'light' });
      await page.goto(new URL(state.path(), mesh.url).href);
      await state.ready(page);
      await rests(page, 'light');
      const light = await wrongs(page, false);
      // Only colours differ in the dark scheme.
      await page.emulateMedia({ colorScheme: 'dark' });
      await rests(page, 'dark');
      const dark = await wrongs(page, true);
      expect([...light, ...dark.map((it) => `dark: ${it}`)]).toEqual([]);
    });
  }
});

/** No page and no state of the workbench shuts anybody out, as far as the rules of axe can tell. */
import { AxeBuilder } from '@axe-core/playwright';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { launch, signIn } from './browser';
import { Mesh } from './mesh';
import { type Everything, furnished, STEERED, states } from './axeStates';

let mesh: Mesh;
let browser: Browser;
let everything: Everything;
const pages = new Map<string, Page>();

beforeAll(async () => {
  mesh = await Mesh.start(STEERED.settings);
  browser = await launch();
  everything = await furnished(mesh);
});

afterAll(async () => {
  await browser?.close();
  STEERED.release('install_agent');
  await mesh?.dispose();
  STEERED.remove();
});

/** A page of a person, or of nobody, as wide as asked for. */
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

/** Waits until the page has a colour scheme and what moves has come to rest, so that colours are what they stay. */
async function rests(page: Page, scheme: 'light' | 'dark'): Promise<void> {
  await page.locator(`html[data-mantine-color-scheme="${scheme}"]`).waitFor();
  await page.waitForFunction(() => document.querySelector('.mantine-Skeleton-root') === null);
  await page.evaluate(async () => {
    const painted = (): Promise<unknown> => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
    const moving = (): Animation[] => document.getAnimations().filter((it) => it.effect?.getTiming().iterations !== Infinity && it.playState === 'running');
    // A change of colours begins to move only when it is painted.
    for (let still = 0; still < 2; ) {
      await painted();
      const now = moving();
      still = now.length === 0 ? still + 1 : 0;
      await Promise.all(now.map((it) => it.finished.catch(() => undefined)));
    }
  });
}

/** What is seriously wrong with a page, one line for each place; what is less so is printed. */
async function wrongs(page: Page, colourAlone: boolean): Promise<string[]> {
  const axe = new AxeBuilder({ page }).setLegacyMode(true);
  const { violations } = await (colourAlone ? axe.withRules(['color-contrast']) : axe).analyze();
  const lines = violations.flatMap(({ id, impact, nodes }) => nodes.map((it) => `${impact} ${id}: ${it.html.slice(0, 200)} ${it.any[0]?.message ?? ''}`));
  const serious = lines.filter((line) => /^(serious|critical) /.test(line));
  for (const line of lines) if (!serious.includes(line)) console.log(line);
  return serious;
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
      // Nothing but colours differs in the dark.
      await page.emulateMedia({ colorScheme: 'dark' });
      await rests(page, 'dark');
      const dark = await wrongs(page, true);
      expect([...light, ...dark.map((it) => `dark: ${it}`)]).toEqual([]);
    });
  }
});

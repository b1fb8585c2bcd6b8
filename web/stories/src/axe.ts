/** Looks at a page with the rules of axe, once it has come to rest. */
import { AxeBuilder } from '@axe-core/playwright';
import type { Page } from 'playwright-core';

/** Waits until the page has a colour scheme and what moves has come to rest, so that colours are what they stay. */
export async function rests(page: Page, scheme: 'light' | 'dark'): Promise<void> {
  await page.locator(`html[data-mantine-color-scheme="${scheme}"]`).waitFor();
  await page.waitForFunction(() => document.querySelector('.mantine-Skeleton-root') === null);
  await page.evaluate(async () => {
    const painted = (): Promise<unknown> => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
    const moving = (): Animation[] =>
      document.getAnimations().filter((it) => it.effect?.getTiming().iterations !== Infinity && it.playState === 'running');
    // A change of colours begins to move only when it is painted. What moves is looked at again, and no promise of its
    // end is waited for: one that is not kept would hold the story up.
    for (let still = 0; still < 2; ) {
      await painted();
      still = moving().length === 0 ? still + 1 : 0;
    }
  });
}

/** What is seriously wrong with a page, one line for each place; what is less so is printed. */
export async function wrongs(page: Page, colourAlone: boolean): Promise<string[]> {
  const axe = new AxeBuilder({ page }).setLegacyMode(true);
  const { violations } = await (colourAlone ? axe.withRules(['color-contrast']) : axe).analyze();
  const lines = violations.flatMap(({ id, impact, nodes }) =>
    nodes.map((it) => `${impact} ${id}: ${it.html.slice(0, 200)} ${it.any[0]?.message ?? ''}`),
  );
  const serious = lines.filter((line) => /^(serious|critical) /.test(line));
  for (const line of lines) if (!serious.includes(line)) console.log(line);
  return serious;
}

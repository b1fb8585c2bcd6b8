/** Checks a page with the rules of axe, once nothing moves any more. */
import { AxeBuilder } from '@axe-core/playwright';
import type { Page } from 'playwright-core';

/** Waits until the page has a colour scheme and nothing moves, so that colours are final. */
export async function rests(page: Page, scheme: 'light' | 'dark'): Promise<void> {
  await page.locator(`html[data-mantine-color-scheme="${scheme}"]`).waitFor();
  await page.waitForFunction(() => document.querySelector('.mantine-Skeleton-root') === null);
  await page.evaluate(async () => {
    const painted = (): Promise<unknown> => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
    const moving = (): Animation[] =>
      document.getAnimations().filter((it) => it.effect?.getTiming().iterations !== Infinity && it.playState === 'running');
    // A change of colours starts its animation only when it is painted, so animations are looked for again. Their
    // promises are not awaited: one that never settles would block the story.
    for (let still = 0; still < 2; ) {
      await painted();
      still = moving().length === 0 ? still + 1 : 0;
    }
  });
}

/** Serious violations of a page, one line for each element; minor ones are printed. */
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

/** Keyboard only: Tab reaches everything, the focus is visible, and dialogs keep and return it. */
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { launch, person } from './browser';
import { Mesh } from './mesh';
import { addRepository, createTask, list, openTask, shows } from './workbench';

/** Presses of Tab after which a walk counts as lost. */
const STEPS = 150;

let mesh: Mesh;
let browser: Browser;
let page: Page;

beforeAll(async () => {
  mesh = await Mesh.start();
  addRepository(mesh, 'alice');
  browser = await launch();
  ({ page } = await person(browser, mesh, 'alice'));
  const other = createTask(mesh, 'say the other one');
  const task = createTask(mesh, 'plan: one; two\nthink first\nwrite notes.md: words\nsay ready for the keyboard');
  await openTask(page, mesh, other);
  await shows(page, 'the other one');
  await openTask(page, mesh, task);
  await shows(page, 'ready for the keyboard');
  await page.getByRole('list', { name: 'Changed files' }).waitFor();
});

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
});

/** An element that Tab stops at. */
interface Stop {
  readonly name: string;
  /** Whether it looks different with the focus. */
  readonly seen: boolean;
  /** Whether it is on the screen. */
  readonly shown: boolean;
}

/** Marks everything that Tab should reach; returns the number of elements. */
async function mark(of: Page): Promise<number> {
  return await of.evaluate(() => {
    let count = 0;
    for (const it of document.querySelectorAll<HTMLElement>('a[href],button,input,textarea,select,[tabindex]')) {
      const radio = it instanceof HTMLInputElement && it.type === 'radio' && !it.checked;
      const off = it.matches(':disabled') || it.closest('[inert],[aria-hidden=true]') !== null;
      if (it.tabIndex < 0 || radio || off || !it.checkVisibility({ visibilityProperty: true })) continue;
      count += 1;
      it.dataset['expected'] = String(count);
    }
    return count;
  });
}

/** The focused element, and whether the focus is visible: it is removed for a moment and the looks are compared. */
async function stop(of: Page): Promise<Stop | undefined> {
  return await of.evaluate(async () => {
    const it = document.activeElement;
    if (!(it instanceof HTMLElement) || it === document.body) return undefined;
    const look = (): string => {
      const parts: string[] = [];
      // A field may show its focus on an element around it, a hidden one on an element beside it.
      const near: Element[] = it.nextElementSibling ? [it.nextElementSibling] : [];
      for (let each: Element | null = it; each && near.length < 7; each = each.parentElement) near.push(each);
      for (const each of near) {
        const style = getComputedStyle(each);
        parts.push(
          style.outlineStyle === 'none' ? '' : `${style.outlineStyle} ${style.outlineWidth} ${style.outlineColor}`,
          style.boxShadow,
          style.borderColor,
          style.backgroundColor,
        );
      }
      return parts.join('|');
    };
    const painted = async (): Promise<void> => {
      for (let frame = 0; frame < 2; frame += 1) await new Promise((resolve) => requestAnimationFrame(resolve));
      for (const animation of document.getAnimations()) if (animation.effect?.getTiming().iterations !== Infinity) animation.finish();
    };
    await painted();
    const name =
      it.getAttribute('aria-label') ??
      ((it as HTMLInputElement).labels?.[0]?.textContent || it.textContent || it.getAttribute('title') || it.outerHTML).trim().slice(0, 60);
    const focused = look();
    const box = it.getBoundingClientRect();
    const shown = box.bottom > 0 && box.right > 0 && box.top < innerHeight && box.left < innerWidth;
    it.blur();
    await painted();
    const seen = focused !== look();
    it.focus({ preventScroll: true });
    delete it.dataset['expected'];
    return { name: `${it.tagName.toLowerCase()} ${name}`, seen, shown };
  });
}

/** Presses Tab from the start of the page until the focus leaves it. */
async function walk(of: Page): Promise<Stop[]> {
  const stops: Stop[] = [];
  await of.evaluate(() => {
    (document.activeElement as HTMLElement | null)?.blur();
    // Starts before the first element.
    const start = document.createElement('span');
    start.tabIndex = -1;
    document.body.prepend(start);
    start.focus();
    start.remove();
  });
  for (let step = 0; step < STEPS; step += 1) {
    await of.keyboard.press('Tab');
    const at = await stop(of);
    if (!at) return stops;
    stops.push(at);
  }
  throw new Error(
    `the walk has no end: ${stops
      .slice(-8)
      .map((s) => s.name)
      .join(', ')}`,
  );
}

for (const panel of ['Changes', 'Files', 'Activity', 'Explain']) {
  test(`Tab comes to everything of a task page with its ${panel.toLowerCase()}, and the focus is seen`, async () => {
    await page.getByRole('tab', { name: new RegExp(`^${panel}`) }).click();
    await page.waitForFunction(() => document.querySelector('.mantine-Skeleton-root') === null);
    const expected = await mark(page);
    const stops = await walk(page);
    const missed = await page.locator('[data-expected]').evaluateAll((all) => all.map((it) => it.outerHTML.slice(0, 200)));
    expect(missed).toEqual([]);
    expect(stops.filter((s) => !s.seen || !s.shown)).toEqual([]);
    expect(stops.length).toBeGreaterThanOrEqual(expected);
    console.log(`${stops.length} stops with ${panel}`);
  });
}

test('arrows move within tabs and the list, and Enter opens what they came to', async () => {
  const changes = page.getByRole('tab', { name: /^Changes/ });
  await changes.focus();
  await page.keyboard.press('ArrowRight');
  await expect.poll(async () => await page.getByRole('tab', { name: /^Files/ }).getAttribute('aria-selected')).toBe('true');
  const before = page.url();
  const rows = list(page).getByRole('link');
  await rows.and(page.locator('[aria-current=page]')).focus();
  await page.keyboard.press('ArrowDown');
  const focused = await page.evaluate(() => (document.activeElement as HTMLAnchorElement | null)?.href ?? '');
  expect(focused).toMatch(/\/[tr]\//);
  await page.keyboard.press('Enter');
  await page.waitForURL((url) => url.href !== before);
  await page.goBack();
});

test('a dialog takes the focus, keeps it, and gives it back', async () => {
  const opener = page.getByRole('button', { name: /New task/ }).first();
  await opener.focus();
  await page.keyboard.press('Enter');
  const dialog = page.getByRole('dialog', { name: 'New task' });
  const focused = async (): Promise<boolean> => await dialog.evaluate((it) => it.contains(document.activeElement));
  await expect.poll(focused).toBe(true);
  for (let i = 0; i < 25; i += 1) {
    await page.keyboard.press('Tab');
    expect(await focused()).toBe(true);
    expect(await stop(page)).toMatchObject({ seen: true });
  }
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'hidden' });
  await expect.poll(async () => await opener.evaluate((it) => it === document.activeElement)).toBe(true);
});

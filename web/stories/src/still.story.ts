/**
 * Nothing that can be pressed moves during a press: a press ends on the element where it began, in every font and
 * width.
 */
import type { Browser, Locator, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { launch, person } from './browser';
import { Mesh } from './mesh';
import { row } from './page';
import { addRepository, composer, createTask, list, openTask, shows, transcript } from './workbench';

/** Window widths; a text that wraps at one of them in one font wraps at another width in another font. */
const WIDTHS = [1280, 1180, 1090, 1000, 920, 760, 390];
const CAN_BE_PRESSED = 'a[href],button,input,textarea,[role=tab],[role=treeitem],[role=separator],summary';

declare global {
  interface Window {
    /** Elements that could be pressed, with their positions. */
    places?: [Element, DOMRect][];
    /** Milliseconds that the page's clock is ahead. */
    older?: number;
  }
}

let mesh: Mesh;
let browser: Browser;
let page: Page;

beforeAll(async () => {
  mesh = await Mesh.start();
  addRepository(mesh, 'alice');
  browser = await launch();
  ({ page } = await person(browser, mesh, 'alice'));
  await page.addInitScript(() => addEventListener('dragstart', (event) => event.preventDefault()));
});

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
});

/** Records the position of everything that can be pressed. */
async function remember(): Promise<void> {
  await page.evaluate((selector) => {
    const shown = [...document.querySelectorAll(selector)].filter((it) => it.checkVisibility({ visibilityProperty: true }));
    window.places = shown.map((it) => [it, it.getBoundingClientRect()]);
  }, CAN_BE_PRESSED);
}

/** What was on the screen and has moved since, one line for each element. */
async function moved(): Promise<string[]> {
  return await page.evaluate(() => {
    const text = (box: DOMRect): string => [box.x, box.y, box.width, box.height].map((it) => it.toFixed(1)).join(' ');
    const onScreen = (window.places ?? []).filter(([, box]) => box.bottom > 0 && box.top < innerHeight);
    return onScreen.flatMap(([it, box]) => {
      const now = it.getBoundingClientRect();
      const off = Math.max(...(['x', 'y', 'width', 'height'] as const).map((each) => Math.abs(now[each] - box[each])));
      const name = it.getAttribute('aria-label') ?? it.textContent.trim().slice(0, 40);
      return off < 0.5 ? [] : [`${it.tagName.toLowerCase()} ${name}: ${text(box)} → ${it.isConnected ? text(now) : 'gone'}`];
    });
  });
}

async function painted(): Promise<void> {
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
}

/** Waits until nothing moves any more: whether a text fits another width is measured some frames later. */
async function settled(): Promise<void> {
  for (let still = 0; still < 5; ) {
    await remember();
    await painted();
    still = (await moved()).length === 0 ? still + 1 : 0;
  }
}

/** Presses in the middle of something, lets `meanwhile` happen, and returns what moved before the release elsewhere. */
async function press(what: Locator, meanwhile: () => Promise<unknown> = painted): Promise<string[]> {
  await remember();
  const box = await what.boundingBox();
  if (!box) throw new Error('what is to be pressed is not on the screen');
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.mouse.down();
  await meanwhile();
  await painted();
  const all = await moved();
  // A release elsewhere is not a click.
  await page.mouse.move(1, 1);
  await page.mouse.up();
  return all;
}

/** Longer than a task changes once more after its turn: its work is taken over up to two seconds later. */
const REST = 3_000;

/**
 * Waits until this many tasks with these words are idle, and the list has not changed for a while: the one that changes
 * last is the first in it.
 */
async function rest(named: string, tasks: number): Promise<void> {
  const idle = row(page, named).filter({ has: page.getByRole('img', { name: 'Idle' }) });
  await expect.poll(async () => await idle.count(), { timeout: 60_000 }).toBe(tasks);
  let seen = '';
  let since = Date.now();
  const unchanged = async (): Promise<number> => {
    const now = await list(page).innerText();
    if (now !== seen) [seen, since] = [now, Date.now()];
    return Date.now() - since;
  };
  await expect.poll(unchanged, { timeout: 60_000, interval: 100 }).toBeGreaterThan(REST);
}

/** Presses at every width; returns what moved. */
async function pressAtWidths(what: Locator, prepare: () => Promise<unknown>, meanwhile?: () => Promise<unknown>): Promise<string[]> {
  const all: string[] = [];
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 800 });
    await prepare();
    await settled();
    all.push(...(await press(what, meanwhile)).map((line) => `${width}: ${line}`));
  }
  await page.setViewportSize({ width: 1280, height: 800 });
  return all;
}

/** Removes the focus from any element. */
async function blur(): Promise<void> {
  await page.evaluate(() => (document.activeElement as HTMLElement | null)?.blur());
}

test('an answer to the question of an agent stays where it is pressed, and the first press gives it', async () => {
  await openTask(page, mesh, createTask(mesh, 'ask before running `cat README.md`. Then say it was read', []));
  const dock = page.getByRole('region', { name: 'The agent is asking for permission' });
  const once = dock.getByRole('button', { name: /^Allow once/ });
  await once.waitFor();
  expect(await pressAtWidths(once, blur)).toEqual([]);
  await blur();
  // As by hand: nothing is asked about the element under the pointer before the release.
  const box = await once.boundingBox();
  await page.mouse.move((box?.x ?? 0) + 20, (box?.y ?? 0) + 8);
  await page.mouse.down();
  await painted();
  await page.mouse.up();
  await shows(page, 'it was read');
  await dock.waitFor({ state: 'hidden' });
});

test('a press that takes the focus from the composer moves nothing while its draft is being kept', async () => {
  await openTask(page, mesh, createTask(mesh, 'say it hangs\nhang'));
  await shows(page, 'it hangs');
  const queue = page.getByRole('button', { name: 'Queue', exact: true });
  const kept = page.getByText('Draft saved', { exact: true });
  // Held until the press: the draft is saved during it and not before, however late the press comes.
  let release = (): void => {};
  let released = Promise.resolve();
  await page.route(/TaskService\/UpdateDraft$/, async (route) => {
    await released;
    await route.continue();
  });
  let draft = 'a draft';
  const type = async (): Promise<void> => {
    released = new Promise((resolve) => {
      release = resolve;
    });
    draft += '.';
    await composer(page).fill(draft);
    await page.getByText(/^(Draft not saved yet|Saving draft…)$/).waitFor();
  };
  const keep = async (): Promise<void> => {
    release();
    await kept.waitFor();
  };
  try {
    expect(await pressAtWidths(queue, type, keep)).toEqual([]);
  } finally {
    release();
    await page.unrouteAll({ behavior: 'wait' });
  }
});

test('a row of the list that the edge cuts stays where it is pressed, whatever comes above it, and is opened', async () => {
  for (let i = 0; i < 12; i += 1) createTask(mesh, `say row ${i}`);
  await rest('say row', 12);
  await page.setViewportSize({ width: 1280, height: 500 });
  await blur();
  const rows = list(page).getByRole('list', { name: 'Tasks' });
  const cut = await rows.evaluateHandle((scroller) => {
    const edge = scroller.getBoundingClientRect().bottom;
    const links = [...scroller.querySelectorAll<HTMLElement>('a[data-row^="task/"]')];
    const last = links.findLast((it) => it.getBoundingClientRect().top < edge - 4);
    // Moves the lower half of the row behind the edge.
    if (last) scroller.scrollTop += last.getBoundingClientRect().top + 20 - edge;
    return last;
  });
  await painted();
  const link = cut.asElement();
  const at = await link?.boundingBox();
  const name = await link?.getAttribute('data-row');
  if (!at || !name) throw new Error('no row is cut');
  await remember();
  await page.mouse.move(at.x + 60, at.y + 8);
  await page.mouse.down();
  await painted();
  expect(await moved()).toEqual([]);
  createTask(mesh, 'say above all');
  await list(page).getByText('15 tasks').waitFor();
  await painted();
  expect(await moved()).toEqual([]);
  await page.mouse.up();
  await page.waitForURL(new RegExp(`${name.replace('task/', '/t/')}$`));
  await row(page, 'above all').waitFor();
  await page.setViewportSize({ width: 1280, height: 800 });
});

test('nothing on a task page moves when it is pointed at and pressed', async () => {
  const prompt = 'plan: one; two\nthink first\nwrite notes.md: words\nrun ls\nsay ready to be pressed';
  await openTask(page, mesh, createTask(mesh, prompt, ['--allow', '--title', 'Pressed']));
  await shows(page, 'ready to be pressed');
  await page.getByRole('list', { name: 'Changed files' }).waitFor();
  await composer(page).fill('words');
  await page.getByText('Draft saved', { exact: true }).waitFor();
  await rest('Pressed', 1);
  const all: string[] = [];
  let pressed = 0;
  for (const width of [1280, 1000, 390]) {
    await page.setViewportSize({ width, height: 800 });
    await transcript(page).waitFor();
    await settled();
    for (const each of await page.locator(CAN_BE_PRESSED).all()) {
      const box = (await each.isVisible()) ? await each.boundingBox() : null;
      if (!box || box.y + box.height / 2 > 800 || box.y + box.height / 2 < 0) continue;
      await blur();
      all.push(...(await press(each)).map((line) => `${width}: ${line}`));
      pressed += 1;
      // The move before the release drags it, and what has another width now is laid out again.
      if ((await each.getAttribute('role')) === 'separator') await settled();
    }
  }
  console.log(`pressed ${pressed} things`);
  expect(all).toEqual([]);
  await page.setViewportSize({ width: 1280, height: 800 });
});

test('nothing on a task page moves as what it shows grows older', async () => {
  await openTask(page, mesh, createTask(mesh, 'say this grows older', ['--allow', '--title', 'Older']));
  await shows(page, 'this grows older');
  await rest('Older', 1);
  // The task's own time: by the time it is idle it may be older than "just now".
  const created = await page.getByRole('main').locator('header time').first().getAttribute('datetime');
  await page.evaluate(
    (begun) => {
      Date.now = () => begun + (window.older ?? 0);
    },
    Date.parse(created ?? ''),
  );
  const older = async (minutes: number, text: RegExp) => {
    await page.evaluate((ms) => {
      window.older = ms;
    }, minutes * 60_000);
    await page.locator('header').getByText(text).first().waitFor();
    await painted();
  };
  const all: string[] = [];
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 800 });
    await older(0, /^just now$/);
    await settled();
    await remember();
    for (const [minutes, text] of [
      [1, /^1 min ago$/],
      [50, /^5\d min ago$/],
      [600, /^10 h ago$/],
    ] as const) {
      await older(minutes, text);
      all.push(...(await moved()).map((line) => `${width}, ${text}: ${line}`));
    }
  }
  expect(all).toEqual([]);
  await page.setViewportSize({ width: 1280, height: 800 });
});

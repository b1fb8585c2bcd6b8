/** The checks of the other stories detect a planted fault: a check that cannot fail shows nothing. */
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { wrongs } from './axe';
import { Complaints, launch } from './browser';
import { beginSpeed, readSpeed, recordSpeed, responsive, typeSlowly } from './speed';

/** A page without a fault. */
const SOUND =
  '<!doctype html><html lang="en"><head><title>Sound</title></head><body style="color:#222;background:#fff"><main><h1>Sound</h1><label>Words <input id="words"></label><p id="text">Text</p></main></body></html>';

let browser: Browser;
let page: Page;

beforeAll(async () => {
  browser = await launch();
  const context = await browser.newContext();
  await recordSpeed(context);
  await context.route('http://sound.test/', async (route) => await route.fulfill({ contentType: 'text/html', body: SOUND }));
  page = await context.newPage();
});

afterAll(async () => {
  await browser?.close();
});

/** Loads the sound page again, so that a planted fault is the only one. */
async function sound(): Promise<void> {
  await page.goto('http://sound.test/');
}

/** Blocks the main thread when a key is pressed. */
async function stall(ms: number, times: number): Promise<void> {
  await page.evaluate(
    ([each, most]) => {
      let left = most;
      document.addEventListener('keydown', () => {
        if (left-- <= 0) return;
        for (const until = performance.now() + each; performance.now() < until; );
      });
    },
    [ms, times] as const,
  );
}

test('axe finds nothing in a sound page, and a button without a name, a pale text and an unlabelled field in others', async () => {
  await sound();
  expect(await wrongs(page, false)).toEqual([]);
  await page.evaluate(() => document.querySelector('main')?.append(document.createElement('button')));
  expect((await wrongs(page, false)).join()).toMatch(/button-name/);
  await sound();
  await page.evaluate(() => document.getElementById('text')?.setAttribute('style', 'color:#bbb'));
  expect((await wrongs(page, true)).join()).toMatch(/color-contrast/);
  await sound();
  await page.evaluate(() => document.querySelector('label')?.replaceWith(document.querySelector('input') ?? ''));
  expect((await wrongs(page, false)).join()).toMatch(/label/);
});

test('a page that takes every key at once is responsive', async () => {
  await sound();
  await beginSpeed(page);
  await typeSlowly(page.locator('#words'), 'words');
  const speed = await readSpeed(page);
  expect(speed.keys).toBe(5);
  responsive(speed);
  await beginSpeed(page);
  const none = await readSpeed(page);
  expect(() => responsive(none)).toThrow('no key was measured');
});

test('a single long stall is found, and so is a delay of every key', async () => {
  await sound();
  await stall(2_200, 1);
  await beginSpeed(page);
  await typeSlowly(page.locator('#words'), 'words');
  const once = await readSpeed(page);
  expect(once.longestTask).toBeGreaterThan(2_000);
  expect(() => responsive(once)).toThrow('the page stalled');
  await sound();
  await stall(400, 5);
  await beginSpeed(page);
  await typeSlowly(page.locator('#words'), 'words');
  const always = await readSpeed(page);
  expect(always.longestTask).toBeLessThan(2_000);
  expect(() => responsive(always)).toThrow('the page stalled');
});

test('an error of a script, a rejected promise and a refusal of the policy are complaints', async () => {
  const complaints = new Complaints(page);
  await sound();
  expect(complaints.all).toEqual([]);
  await page.evaluate(
    () =>
      void setTimeout(() => {
        throw new Error('planted');
      }),
  );
  await expect.poll(() => complaints.all.join()).toMatch(/planted/);
  await page.evaluate(() => void Promise.reject(new Error('left alone')));
  await expect.poll(() => complaints.all.join()).toMatch(/left alone/);
  await page.evaluate(() => {
    const policy = document.createElement('meta');
    policy.setAttribute('http-equiv', 'Content-Security-Policy');
    policy.setAttribute('content', "img-src 'none'");
    document.head.append(policy);
    new Image().src = 'data:image/gif;base64,R0lGODlhAQABAAAAACw=';
  });
  await expect.poll(() => complaints.all.join()).toMatch(/Content.Security.Policy/i);
});

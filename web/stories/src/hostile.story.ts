/** What an agent writes and names is shown, but has no effect. */
import { createServer, type Server } from 'node:net';
import type { AddressInfo } from 'node:net';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Complaints, launch, signIn } from './browser';
import { Mesh } from './mesh';
import { addRepository, composer, createTask, list, openTask, send, shows, transcript } from './workbench';

declare global {
  interface Window {
    /** Set by any agent's script that runs. */
    ran?: unknown;
    violations?: string[];
  }
}

/** Requests of the browser for its own services, whatever page it shows. */
const CHROMIUM_ITSELF = /^CONNECT [\w.-]+\.google(apis)?\.com:443 /;
const IMAGE = '</script><img src=x onerror=window.ran=1>';
const REMOTE = 'https://remote.invalid';
const TITLE = `Mend ${IMAGE} \u202etxt.exe ![pixel](${REMOTE}/title.png)`;
const PROMPT = [
  `say ${IMAGE} <svg onload=window.ran=2></svg> <iframe src=${REMOTE}/frame></iframe> <a href=${REMOTE} onfocus=window.ran=3 autofocus>a</a>`,
  `say ![pixel](${REMOTE}/pixel.png) [click](javascript:window.ran=4) [data](data:text/html,<script>window.ran=5</script>) <${REMOTE}/auto> [![nested](${REMOTE}/nested.png)](${REMOTE}/nested)`,
  `say <style>body{display:none}</style><link rel=stylesheet href=${REMOTE}/style.css><base href=${REMOTE}><meta http-equiv=refresh content=0;url=${REMOTE}>`,
  'say \u001b[31mred\u001b[0m \u001b]0;owned\u0007 \u202etxt.exe \u2066isolated\u2069',
  `think ${IMAGE} ![pixel](${REMOTE}/thought.png)`,
  `plan: ${IMAGE}; \u202eback; \u001b[31mred`,
  `write "${IMAGE.replace('/', '')}.md": ${IMAGE} ![pixel](${REMOTE}/file.png)`,
  'write "\u202etxt.exe": \u202eback \u001b[31mred',
  'write picture.svg: <svg xmlns="http://www.w3.org/2000/svg" onload="window.ran=6"></svg>',
  String.raw`run printf '\033]0;owned\007\033[2J\033[31m<img src=x onerror=window.ran=7>\n'`,
  'emit hostile text',
  'print a 1024 KiB line',
  `ask permission to write "asked<img src=x onerror=window.ran=8>.md": ${IMAGE}`,
  'say that was all',
].join('\n');

let mesh: Mesh;
let browser: Browser;
let context: BrowserContext;
let page: Page;
let complaints: Complaints;
let outside: Server;
let taskId: string;
/** Everything that a page tried outside of its own origin, or that a person would notice. */
const happened: string[] = [];

beforeAll(async () => {
  mesh = await Mesh.start();
  addRepository(mesh, 'alice');
  browser = await launch();
  // Requests to other machines arrive here.
  outside = createServer((socket) => {
    socket
      .on('error', () => {})
      .once('data', (head) => {
        const line = head.toString('latin1').split('\r\n')[0] ?? '';
        if (!CHROMIUM_ITSELF.test(line)) happened.push(`a connection outside: ${line}`);
        socket.destroy();
      });
  });
  await new Promise<void>((resolve) => outside.listen(0, '127.0.0.1', resolve));
  const server = `http://127.0.0.1:${(outside.address() as AddressInfo).port}`;
  context = await browser.newContext({ viewport: { width: 1280, height: 800 }, proxy: { server, bypass: '127.0.0.1' } });
  await context.addInitScript(() => {
    window.violations = [];
    addEventListener('securitypolicyviolation', (event) => window.violations?.push(`${event.effectiveDirective} ${event.blockedURI}`));
  });
  context.on('request', (request) => {
    const { origin, protocol } = new URL(request.url());
    if (origin !== mesh.url && protocol !== 'blob:' && !request.url().startsWith('data:image/svg+xml'))
      happened.push(`request ${request.url().slice(0, 200)}`);
  });
  context.on('dialog', (dialog) => {
    happened.push(`dialog ${dialog.message()}`);
    void dialog.dismiss();
  });
  page = await context.newPage();
  page.setDefaultTimeout(60_000);
  complaints = new Complaints(page);
  await signIn(page, mesh, 'alice');
  context.on('page', (opened) => happened.push(`page ${opened.url()}`));
  page.on('download', (download) => happened.push(`download ${download.url()}`));
  taskId = createTask(mesh, PROMPT, ['--title', TITLE]);
});

afterAll(async () => {
  await browser?.close();
  outside?.close();
  await mesh?.dispose();
});

/** Checks everything that a page shows now: no part of it acts, hides text or extends beyond the page. */
async function isInert(what: string): Promise<void> {
  const found = await page.evaluate((origin) => {
    const bad: string[] = [];
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern is for these characters
    const acts = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/;
    if (window.ran !== undefined) bad.push(`a script ran: ${String(window.ran)}`);
    for (const violation of window.violations ?? []) bad.push(`refused by the policy: ${violation}`);
    for (const it of document.querySelectorAll('iframe,object,embed,base,form[action],body img,body link,body meta,body script:not([src])'))
      bad.push(it.outerHTML.slice(0, 200));
    for (const link of document.querySelectorAll('a[href]')) {
      const { protocol, origin: target } = new URL((link as HTMLAnchorElement).href);
      if (!['http:', 'https:', 'mailto:'].includes(protocol)) bad.push(link.outerHTML.slice(0, 200));
      if (target !== origin && !/noopener noreferrer nofollow/.test((link as HTMLAnchorElement).rel))
        bad.push(link.outerHTML.slice(0, 200));
    }
    for (const it of document.body.querySelectorAll('*')) {
      for (const { name, value } of it.attributes) {
        if (name.startsWith('on')) bad.push(`${name}=${value}`);
        if (acts.test(value)) bad.push(`${name} of ${it.tagName} acts: ${JSON.stringify(value.slice(0, 100))}`);
      }
      for (const text of it.childNodes) {
        if (text instanceof Text && it.tagName !== 'TEXTAREA' && acts.test(text.data))
          bad.push(`text of ${it.tagName}.${it.className} acts: ${JSON.stringify(text.data.slice(0, 100))}`);
      }
    }
    const root = document.documentElement;
    if (root.scrollWidth > root.clientWidth) bad.push(`the page is ${root.scrollWidth} wide, the window ${root.clientWidth}`);
    const log = document.querySelector('[role=log]');
    if (log && log.scrollWidth > log.clientWidth) bad.push(`the transcript is ${log.scrollWidth} wide, its place ${log.clientWidth}`);
    if (acts.test(document.title) || document.title === 'owned') bad.push(`title ${document.title}`);
    return bad;
  }, mesh.url);
  expect(found, what).toEqual([]);
  expect(happened, what).toEqual([]);
}

/**
 * Scrolls every block of the transcript onto the screen, from the end to the start; returns the text that was shown.
 */
async function lookThrough(what: string): Promise<string> {
  const log = transcript(page);
  let words = '';
  await log.evaluate((it) => it.scrollTo({ top: it.scrollHeight }));
  for (let at = 1; at > 0; ) {
    await isInert(`${what}, at ${Math.round(at * 100)} %`);
    words += await log.innerText();
    at = await log.evaluate(async (it) => {
      it.scrollTo({ top: it.scrollTop - it.clientHeight * 0.8 });
      await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
      return it.scrollTop / (it.scrollHeight - it.clientHeight);
    });
  }
  await isInert(`${what}, at its start`);
  return words + (await log.innerText());
}

/** Chooses a view of the task by the name of its tab. */
async function choose(name: string): Promise<void> {
  await page.getByRole('tab', { name: new RegExp(`^${name}`) }).click();
}

test('a hostile transcript is shown and does nothing', async () => {
  await openTask(page, mesh, taskId);
  const question = page.getByRole('region', { name: 'The agent is asking for permission' });
  await question.waitFor();
  await isInert('the question');
  await question.getByRole('button', { name: /allow/i }).first().click();
  await shows(page, 'that was all');
  await lookThrough('transcript');
  for (const fold of await transcript(page).locator('button[aria-expanded=false]:visible').all()) {
    if (await fold.isVisible()) await fold.click();
  }
  const words = await lookThrough('opened transcript');
  for (const shown of [
    IMAGE,
    '<svg onload=window.ran=2>',
    '[picture: pixel]',
    'remote.invalid/pixel.png',
    '<style>body{display:none}</style>',
    '⟦RLO⟧txt.exe',
    '␛]0;title',
    "<script>alert('demo')</script>",
    'Show all',
  ]) {
    expect(words).toContain(shown);
  }
  expect(await list(page).innerText()).toContain('⟦RLO⟧txt.exe');
});

test('the long line is shown in part, and whole on demand', async () => {
  await transcript(page).evaluate((it) => it.scrollTo({ top: it.scrollHeight }));
  const all = transcript(page)
    .getByRole('button', { name: /^Show all/ })
    .first();
  for (let i = 0; i < 50 && !(await all.isVisible()); i += 1) {
    await transcript(page).evaluate((it) => it.scrollBy({ top: -300 }));
    await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(resolve)));
  }
  await all.click();
  await page.getByRole('button', { name: 'Show less' }).first().waitFor();
  await isInert('the long line');
});

test('hostile names and contents in every panel do nothing', async () => {
  await choose('Changes');
  const changed = page.getByRole('list', { name: 'Changed files' });
  await changed.getByRole('table').first().waitFor();
  for (const closed = changed.getByRole('button', { expanded: false }); (await closed.count()) > 0; ) await closed.first().click();
  await expect.poll(async () => await changed.getByRole('table').count()).toBeGreaterThanOrEqual(3);
  await isInert('changes');
  await choose('Files');
  const files = page.getByRole('treeitem').filter({ hasText: /onerror|exe|svg/ });
  await files.first().waitFor();
  await isInert('files');
  for (let i = 0, count = await files.count(); i < count; i += 1) {
    await files.nth(i).click();
    await page.getByRole('region', { name: 'Content' }).waitFor();
    await isInert('a file');
    await page.getByRole('button', { name: 'Back to the tree' }).click();
    await files.first().waitFor();
  }
  for (const panel of ['Processes', 'Activity', 'Explain']) {
    await choose(panel);
    await page.getByRole('tabpanel').first().waitFor();
    await isInert(panel);
  }
});

test('on a narrow screen nothing hangs out either', async () => {
  await page.setViewportSize({ width: 390, height: 844 });
  for (const view of ['Chat', 'Changes', 'Files', 'Activity', 'Explain']) {
    await choose(view);
    await page.getByRole('tabpanel').first().waitFor();
    await isInert(`${view}, narrow`);
  }
  await choose('Chat');
  await lookThrough('transcript, narrow');
  await page.setViewportSize({ width: 1280, height: 800 });
});

test('what is written while thousands of lines stream stays, and they do nothing', async () => {
  await send(page, 'stream 8000 chunks\nprint a 1024 KiB line\nemit hostile text\nstream 2000 chunks\nsay the stream has ended');
  await transcript(page)
    .getByText(/chunk \d+ of 8000/)
    .first()
    .waitFor();
  await composer(page).pressSequentially('these words are written while very much arrives', { delay: 60 });
  await shows(page, 'the stream has ended', 120_000);
  expect(await composer(page).inputValue()).toBe('these words are written while very much arrives');
  await isInert('after the stream');
  expect(complaints.all).toEqual([]);
});

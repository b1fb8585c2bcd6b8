/** A transcript of many entries: read back to its start, jumped to its end, typed below, all without a stall. */
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { SessionState } from '@foundry/client/gen/foundry/task/v1/task_pb';
import { Api } from './api';
import { Complaints, launch, signIn } from './browser';
import { Mesh } from './mesh';
import { beginSpeed, readSpeed, recordSpeed, responsive, speedText, typeSlowly } from './speed';
import { addRepository, composer, createTask, openTask, send, shows, transcript } from './workbench';

/** Minimum of entries in the transcript; `STORY_ENTRIES=50000` is the full size. */
const ENTRIES = Number(process.env['STORY_ENTRIES'] ?? '12000');
/** Instructions of one message: below its 256 KiB. */
const PER_MESSAGE = 6_000;

let mesh: Mesh;
let browser: Browser;
let page: Page;
let api: Api;
let taskId: string;
let sessionId: string;
let complaints: Complaints;

/** A message that makes about one entry for each of its lines. */
function instructions(from: number, count: number): string {
  return Array.from({ length: count }, (_, i) =>
    (from + i) % 2 === 0 ? `say x${from + i}` : `write f${(from + i) % 97}.txt: y${from + i}`,
  ).join('\n');
}

/** Number of entries of the session, and whether it has finished its work. */
async function progress(): Promise<{ entries: number; idle: boolean }> {
  const session = (await api.task.getTask({ taskId })).sessions.find((s) => s.sessionId === sessionId);
  return { entries: Number(session?.lastOffset ?? 0n), idle: session?.state === SessionState.IDLE && session.queueLength === 0 };
}

/** Waits while the page only receives. */
async function quiet(seconds: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}

beforeAll(async () => {
  mesh = await Mesh.start();
  addRepository(mesh, 'alice');
  browser = await launch();
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  await recordSpeed(context);
  page = await context.newPage();
  page.setDefaultTimeout(60_000);
  complaints = new Complaints(page);
  await signIn(page, mesh, 'alice');
  taskId = createTask(mesh, 'quickly\nsay the first words');
  api = await Api.signIn(mesh, 'alice');
  await openTask(page, mesh, taskId);
  await shows(page, 'the first words');
  const { sessions } = await api.task.getTask({ taskId });
  sessionId = sessions[0]?.sessionId ?? '';
});

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
});

/** Scroll position and scrollable length of the transcript. */
async function place(): Promise<{ top: number; end: number }> {
  return await transcript(page).evaluate((it) => ({ top: it.scrollTop, end: it.scrollHeight - it.clientHeight }));
}

test(
  `while ${ENTRIES} entries arrive the composer takes every key at once`,
  async () => {
    const begun = Date.now();
    for (let from = 0; from < ENTRIES; from += PER_MESSAGE) {
      await api.task.sendMessage({ sessionId, text: instructions(from, Math.min(PER_MESSAGE, ENTRIES - from)) });
    }
    await shows(page, /^x\d+/);
    await beginSpeed(page);
    let typed = '';
    for (let words = 0; words < 6 || (await progress()).entries < ENTRIES; words += 1) {
      const word = `word${words} `;
      await typeSlowly(composer(page), word);
      typed += word;
      await expect.poll(async () => await composer(page).inputValue()).toBe(typed);
      await quiet(2);
    }
    const speed = await readSpeed(page);
    const { top, end } = await place();
    console.log(`streaming: ${speedText(speed)}`);
    expect(end - top).toBeLessThan(200);
    await expect.poll(async () => (await progress()).idle, { timeout: 300_000, interval: 500 }).toBe(true);
    const { entries } = await progress();
    console.log(`${entries} entries in ${Math.round((Date.now() - begun) / 1000)} s`);
    expect(entries).toBeGreaterThanOrEqual(ENTRIES);
    await composer(page).fill('');
    responsive(speed);
  },
  120_000 + ENTRIES * 30,
);

test(
  'the transcript is read back to its very start, and stays quick with all of it loaded',
  async () => {
    await page.reload();
    await transcript(page).getByText('x', { exact: false }).last().waitFor();
    await beginSpeed(page);
    const begun = Date.now();
    const first = transcript(page).getByText('the first words').last();
    let pages = 0;
    for (; !(await first.isVisible()); pages += 1) {
      await transcript(page).evaluate((it) => it.scrollTo({ top: 0 }));
      await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(resolve)));
    }
    const reading = await readSpeed(page);
    console.log(`read back in ${Math.round((Date.now() - begun) / 1000)} s and ${pages} scrolls: ${speedText(reading)}`);

    await beginSpeed(page);
    await typeSlowly(composer(page), 'words at the start of everything');
    for (const part of [0.2, 0.8, 0.5, 0.1, 0.9, 0]) {
      await transcript(page).evaluate((it, to) => it.scrollTo({ top: to * (it.scrollHeight - it.clientHeight) }), part);
      await transcript(page).getByRole('article').first().waitFor();
    }
    for (let i = 0; i < 20; i += 1) {
      await page.mouse.move(400, 400);
      await page.mouse.wheel(0, 700);
    }
    const moving = await readSpeed(page);
    console.log(`all loaded: ${speedText(moving)}`);

    await beginSpeed(page);
    const left = Date.now();
    await page.getByRole('button', { name: /jump to latest/i }).click();
    await expect
      .poll(
        async () => {
          const { top, end } = await place();
          return end - top;
        },
        { timeout: 1_000 }, // a jump reaches the end at once
      )
      .toBeLessThan(100);
    const took = Date.now() - left;
    await composer(page).fill('');
    await send(page, 'say the last words');
    await shows(page, 'the last words');
    await typeSlowly(composer(page), 'words at the end of everything');
    const after = await readSpeed(page);
    console.log(`jumped to the end in ${took} ms: ${speedText(after)}`);
    responsive(reading, false);
    responsive(moving);
    responsive(after);
    expect(complaints.all).toEqual([]);
  },
  120_000 + ENTRIES * 30,
);

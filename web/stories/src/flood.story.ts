/** A flood of output from an agent, measured while nothing else runs on the machine: the page responds to every key. */
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { launch, signIn } from './browser';
import { Mesh } from './mesh';
import { beginSpeed, readSpeed, recordSpeed, responsive, speedText, typeSlowly } from './speed';
import { addRepository, composer, createTask, openTask, send, shows, transcript } from './workbench';

let mesh: Mesh;
let browser: Browser;
let page: Page;

beforeAll(async () => {
  mesh = await Mesh.start();
  addRepository(mesh, 'alice');
  browser = await launch();
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  await recordSpeed(context);
  page = await context.newPage();
  page.setDefaultTimeout(60_000);
  await signIn(page, mesh, 'alice');
  await openTask(page, mesh, createTask(mesh, 'emit hostile text\nprint a 1024 KiB line\nsay that was all'));
  await shows(page, 'that was all');
});

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
});

test('the page stays quick when a long line is shown whole', async () => {
  await beginSpeed(page);
  await transcript(page)
    .getByRole('button', { name: /^Show all/ })
    .first()
    .click();
  await page.getByRole('button', { name: 'Show less' }).first().waitFor();
  await typeSlowly(composer(page), 'beside a long line');
  const speed = await readSpeed(page);
  console.log(`a line of 1 MiB: ${speedText(speed)}`);
  expect(await composer(page).inputValue()).toBe('beside a long line');
  responsive(speed);
});

test('while thousands of lines stream every key is painted soon', async () => {
  await send(page, 'stream 8000 chunks\nprint a 1024 KiB line\nemit hostile text\nstream 2000 chunks\nsay the stream has ended');
  await transcript(page)
    .getByText(/chunk \d+ of 8000/)
    .first()
    .waitFor();
  await beginSpeed(page);
  await typeSlowly(composer(page), 'these words are written while very much arrives');
  await shows(page, 'the stream has ended', 120_000);
  const speed = await readSpeed(page);
  console.log(`streaming: ${speedText(speed)}`);
  expect(await composer(page).inputValue()).toBe('these words are written while very much arrives');
  responsive(speed);
});

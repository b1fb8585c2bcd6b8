/** How soon a person sees a change, measured while nothing else runs on the machine. */
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { launch, signIn } from './browser';
import { Mesh } from './mesh';
import { createByKeyboard, isState, type Newcomer, newcomer, provisioning } from './page';
import { addRepository } from './workbench';

let mesh: Mesh;
let browser: Browser;
let me: Newcomer;

beforeAll(async () => {
  mesh = await Mesh.start();
  addRepository(mesh, 'alice');
  browser = await launch();
  me = await newcomer(browser);
  await signIn(me.page, mesh, 'alice');
});

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
});

test('the stages of a new task are on the screen within five seconds of Ctrl+Enter', async () => {
  const { page } = me;
  const begun = Date.now();
  await createByKeyboard(page, 'say hello');
  await provisioning(page).waitFor();
  const first = Date.now() - begun;
  await provisioning(page)
    .getByText(/^Provisioned in/)
    .waitFor();
  console.log(`stages on the screen ${first} ms after Ctrl+Enter, all of them done after ${Date.now() - begun} ms`);
  expect(first).toBeLessThan(5_000);
  await isState(page, 'Idle');
  expect(me.complaints.all).toEqual([]);
});

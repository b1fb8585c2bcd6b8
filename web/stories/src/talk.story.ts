/** Conversations with an agent: queued messages, a stopped turn, a reloaded page, unread entries. */
import type { Browser, Locator, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Api } from './api';
import { Complaints, launch, signIn } from './browser';
import { Mesh } from './mesh';
import { createByKeyboard, isState, type Newcomer, newcomer, row } from './page';
import { addRepository, composer, createTask, openTask, said, send, shows, transcript } from './workbench';

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

/** The queued messages. */
function queue(page: Page): Locator {
  return page.getByRole('region', { name: 'Queued messages' }).getByRole('listitem');
}

/** The texts of the queued messages, once there are `count`. */
async function queued(page: Page, count: number): Promise<string[]> {
  await expect.poll(async () => await queue(page).count(), { timeout: 30_000 }).toBe(count);
  return (await queue(page).allInnerTexts()).map((text) => text.trim());
}

test('messages sent in a turn wait, are changed and removed, outlive a stop, and are delivered in order on resuming', async () => {
  const { page } = me;
  await createByKeyboard(page, 'say it hangs now\nhang');
  await shows(page, 'it hangs now');
  await page.getByRole('form', { name: 'New message' }).getByRole('button', { name: 'Queue' }).waitFor();
  for (const text of ['say the first', 'say the second', 'say the third']) await send(page, text);
  expect(await queued(page, 3)).toEqual(['say the first', 'say the second', 'say the third']);
  await queue(page).first().getByRole('button', { name: 'Edit this message' }).click();
  const text = page.getByLabel('Message text');
  expect(await text.inputValue()).toBe('say the first');
  await text.fill('say the changed one');
  await page.getByRole('button', { name: 'Save' }).click();
  await queue(page).getByText('say the changed one').waitFor();
  await queue(page).filter({ hasText: 'the second' }).getByRole('button', { name: 'Remove this message' }).click();
  expect(await queued(page, 2)).toEqual(['say the changed one', 'say the third']);
  await page.reload();
  expect(await queued(page, 2)).toEqual(['say the changed one', 'say the third']);
  await page.getByTitle('Stop the turn (Esc)').click();
  await transcript(page).getByText('Turn stopped').waitFor();
  await page.getByText('paused after a stop or an error').waitFor();
  expect(await said(page).getByText('the changed one').count()).toBe(0);
  await page.getByRole('button', { name: 'Resume' }).click();
  await said(page).getByText('the third').waitFor();
  await isState(page, 'Idle');
  const words = (await said(page).allInnerTexts()).join(' ');
  expect(words.indexOf('the changed one')).toBeGreaterThan(0);
  expect(words.indexOf('the third')).toBeGreaterThan(words.indexOf('the changed one'));
  expect(words).not.toContain('the second');
  expect(await page.getByRole('region', { name: 'Queued messages' }).count()).toBe(0);
  expect(me.complaints.all).toEqual([]);
});

test('Escape in the composer stops the turn too, and a turn that fails says why', async () => {
  const { page } = me;
  await send(page, 'hang');
  await page.getByTitle('Stop the turn (Esc)').waitFor();
  await composer(page).press('Escape');
  await expect.poll(async () => await transcript(page).getByText('Turn stopped').count(), { timeout: 30_000 }).toBe(2);
  await send(page, 'fail with no apples today');
  await transcript(page).getByRole('group', { name: 'Turn failed' }).getByText('no apples today').waitFor();
  await send(page, 'say and on it goes');
  await said(page).getByText('and on it goes').waitFor();
  expect(me.complaints.all).toEqual([]);
});

test('a page loaded anew in the middle of a turn keeps the draft and goes on without a gap', async () => {
  const { page } = me;
  const spoken = Array.from({ length: 80 }, (_, i) => `word${i + 1}`);
  await createByKeyboard(page, `slowly\nsay ${spoken.join(' ')}`);
  await said(page)
    .getByText(/word9\b/)
    .waitFor();
  await composer(page).pressSequentially('what I was about to say');
  await page.getByText('Draft saved').waitFor();
  await page.reload();
  await said(page)
    .getByText(/word9\b/)
    .waitFor();
  await expect.poll(async () => await composer(page).inputValue(), { timeout: 30_000 }).toBe('what I was about to say');
  await said(page)
    .getByText(/word80\b/)
    .waitFor();
  expect((await said(page).allInnerTexts()).join(' ').match(/word\d+/g)).toEqual(spoken);
  await isState(page, 'Idle');
  expect(await composer(page).inputValue()).toBe('what I was about to say');
  await composer(page).fill('');
  expect(me.complaints.all).toEqual([]);
});

test('what is said while nobody looks is marked as unread, until another tab reads it', async () => {
  const { page, context } = me;
  const aside = createTask(mesh, 'say the aside begins');
  await openTask(page, mesh, createTask(mesh, 'say elsewhere'));
  const mark = row(page, 'the aside begins').getByRole('img', { name: 'unread' });
  await mark.waitFor();
  const other = await context.newPage();
  const others = new Complaints(other);
  await other.goto(page.url());
  await openTask(other, mesh, aside);
  await shows(other, 'the aside begins');
  await mark.waitFor({ state: 'hidden' });
  await row(other, 'elsewhere').click();
  await shows(other, 'elsewhere');
  // Sent by another client, so that the answer cannot arrive while the other tab still shows the session.
  const { task } = await Api.signIn(mesh, 'alice');
  const [session] = (await task.getTask({ taskId: aside })).sessions;
  await task.sendMessage({ sessionId: session?.sessionId ?? '', text: 'say something new' });
  await mark.waitFor();
  await row(other, 'the aside begins').getByRole('img', { name: 'unread' }).waitFor();
  await row(other, 'the aside begins').click();
  await shows(other, 'something new');
  await mark.waitFor({ state: 'hidden' });
  await other.close();
  expect([...me.complaints.all, ...others.all]).toEqual([]);
});

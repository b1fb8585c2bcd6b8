/** Files: attached, pasted, dropped, taken out and sent; pictures of the agent, and hostile files of both. */
import { deflateSync, crc32 } from 'node:zlib';
import { createHash } from 'node:crypto';
import type { Browser, Download, Locator, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { launch, signIn } from './browser';
import { Mesh } from './mesh';
import { createByKeyboard, isState, type Newcomer, newcomer } from './page';
import { addRepository, composer, said, shows, transcript } from './workbench';
import { rests, wrongs } from './axe';

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

/** A picture of one colour, different for each shade. */
function png(shade: number): Buffer {
  const chunk = (type: string, data: Buffer) => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, sum]);
  };
  const head = Buffer.from([0, 0, 0, 8, 0, 0, 0, 8, 8, 2, 0, 0, 0]);
  const rows = Buffer.concat(Array.from({ length: 8 }, () => Buffer.from([0, ...Array<number>(24).fill(shade)])));
  return Buffer.concat([
    Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'),
    chunk('IHDR', head),
    chunk('IDAT', deflateSync(rows)),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

const hash = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

/** The files of the message that is being written. */
function attached(page: Page): Locator {
  return page.getByRole('list', { name: 'Attached files' }).getByRole('listitem');
}

/** Gives a file to the composer by an event of the browser, as pasting and dropping do. */
async function give(page: Page, event: 'paste' | 'drop', name: string, bytes: Buffer): Promise<void> {
  await composer(page).evaluate(
    (field, { event, name, base64 }) => {
      const content = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
      const data = new DataTransfer();
      data.items.add(new File([content], name, { type: 'image/png' }));
      const init = { bubbles: true, cancelable: true };
      field.dispatchEvent(
        event === 'paste'
          ? new ClipboardEvent('paste', { ...init, clipboardData: data })
          : new DragEvent('drop', { ...init, dataTransfer: data }),
      );
    },
    { event, name, base64: bytes.toString('base64') },
  );
}

async function allSent(page: Page, count: number): Promise<void> {
  await expect.poll(async () => await attached(page).count(), { timeout: 30_000 }).toBe(count);
  await expect.poll(async () => await attached(page).and(page.locator('[data-state="sent"]')).count(), { timeout: 30_000 }).toBe(count);
}

/** Saves a file by the keyboard: an answer of the agent may move the button between press and release of a click. */
async function saved(page: Page, button: Locator): Promise<Download> {
  const notice = page.getByRole('region', { name: 'Messages' }).filter({ hasText: 'The file was not saved' });
  const begun = page.waitForEvent('download');
  const failed = notice.waitFor().then(async () => {
    throw new Error(await notice.innerText());
  });
  const [download] = await Promise.all([Promise.race([begun, failed]), button.press('Enter')]);
  return download;
}

/** Names of the pictures that the browser has decoded. */
async function pictures(page: Page, within: Locator): Promise<string[]> {
  await page.waitForFunction(() => [...document.querySelectorAll('img')].every((each) => each.complete));
  return await within
    .locator('img')
    .evaluateAll((all) => all.filter((each) => (each as HTMLImageElement).naturalWidth > 0).map((each) => (each as HTMLImageElement).alt));
}

test('files are attached, pasted and dropped, taken out again, and reach the agent byte for byte', async () => {
  const { page } = me;
  await createByKeyboard(page, 'say ready');
  await isState(page, 'Idle');
  const [chosen, pasted, dropped] = [png(10), png(20), png(30)];
  await page.getByLabel('Files to attach').setInputFiles([
    { name: 'chosen.png', mimeType: 'image/png', buffer: chosen },
    { name: 'wrong.png', mimeType: 'image/png', buffer: Buffer.from('not wanted') },
  ]);
  await give(page, 'paste', 'image.png', pasted);
  await give(page, 'drop', 'dropped.png', dropped);
  await allSent(page, 4);
  await page.getByText('Files are not saved with the draft').waitFor();
  await page.getByRole('button', { name: 'Remove wrong.png' }).click();
  await composer(page).fill('show attachments');
  await composer(page).press('Enter');
  await expect.poll(async () => await composer(page).inputValue()).toBe('');
  await expect.poll(async () => await attached(page).count()).toBe(0);
  for (const bytes of [chosen, pasted, dropped]) await shows(page, new RegExp(hash(bytes)));
  expect((await said(page).allInnerTexts()).join(' ')).not.toContain(hash(Buffer.from('not wanted')));
  const mine = page.getByRole('list', { name: 'Files of this message' });
  await expect.poll(async () => await pictures(page, mine), { timeout: 30_000 }).toEqual(['chosen.png', 'image.png', 'dropped.png']);
  await isState(page, 'Idle');
  expect(await page.getByText(/Changes \d/).count(), 'files are no work').toBe(0);
  expect(me.complaints.all).toEqual([]);
});

test('pictures of the agent are shown after a reload too, and open larger by the keyboard', async () => {
  const { page } = me;
  await composer(page).fill('show a picture');
  await composer(page).press('Enter');
  const own = transcript(page).getByRole('article', { name: 'File from the agent demo' });
  const tool = transcript(page).getByRole('article', { name: 'File from a tool of the agent demo' });
  await own.getByRole('img').waitFor();
  await tool.getByRole('img').waitFor();
  await isState(page, 'Idle');
  await page.reload();
  await own.getByRole('img').waitFor();
  expect(await own.getByRole('img').getAttribute('src')).toMatch(/^blob:/);
  await expect.poll(async () => await pictures(page, own), { timeout: 30_000 }).toEqual(['picture.png']);
  await own.getByRole('button', { name: 'Enlarge picture picture.png' }).focus();
  await page.keyboard.press('Enter');
  const dialog = page.getByRole('dialog', { name: 'picture.png' });
  await dialog.getByRole('img', { name: 'picture.png' }).waitFor();
  await rests(page, 'light'); // the dialog fades in
  expect(await wrongs(page, false)).toEqual([]);
  const saving = page.waitForEvent('download');
  await dialog.getByRole('button', { name: 'Save picture.png' }).click();
  expect((await saving).suggestedFilename()).toBe('picture.png');
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'hidden' });
  expect(await own.getByRole('button').evaluate((each) => each === document.activeElement), 'the focus is back').toBe(true);
  expect(me.complaints.all).toEqual([]);
});

test('a file that only says it is a picture is never shown as one, and one that is too large is refused at once', async () => {
  const { page } = me;
  const script = Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" onload="document.title=1"><script>document.title=2</script></svg>');
  await page.getByLabel('Files to attach').setInputFiles([
    { name: 'evil.svg', mimeType: 'image/svg+xml', buffer: script },
    { name: 'page.png', mimeType: 'image/png', buffer: Buffer.from('<script>document.title=3</script>') },
  ]);
  await allSent(page, 2);
  await page.getByLabel('Files to attach').setInputFiles([{ name: 'largest.bin', mimeType: '', buffer: Buffer.alloc(3 * 1024 * 1024) }]);
  await allSent(page, 3);
  await page.getByRole('button', { name: 'Remove largest.bin' }).click();
  await page.getByLabel('Files to attach').setInputFiles([{ name: 'large.bin', mimeType: '', buffer: Buffer.alloc(3 * 1024 * 1024 + 1) }]);
  await page.getByText('The file is over 3 MiB').waitFor();
  expect(await page.getByRole('button', { name: 'Send', exact: true }).isDisabled()).toBe(true);
  expect(await wrongs(page, false)).toEqual([]);
  await page.getByRole('button', { name: 'Remove large.bin' }).click();
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  const last = page.getByRole('list', { name: 'Files of this message' }).last();
  await last.getByRole('button', { name: 'Save evil.svg' }).waitFor();
  await last.getByRole('button', { name: 'Save page.png' }).waitFor();
  expect(await last.locator('img').count()).toBe(0);
  const download = await saved(page, last.getByRole('button', { name: 'Save evil.svg' }));
  expect(download.url()).toMatch(/^blob:/);
  expect(await page.title()).not.toMatch(/^[123]$/);
  expect(me.complaints.all).toEqual([]);
});

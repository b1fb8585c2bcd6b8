/** Parts of the page that several stories use, found by the names that a screen reader would read. */
import type { Browser, BrowserContext, Locator, Page } from 'playwright-core';
import { Complaints } from './browser';
import { list, transcript } from './workbench';

/** The browser of a new user, with the errors of its first page. */
export interface Newcomer {
  readonly context: BrowserContext;
  readonly page: Page;
  readonly complaints: Complaints;
}

/** Opens an empty page of a browser without cookies and storage. */
export async function newcomer(browser: Browser, options: Parameters<Browser['newContext']>[0] = {}): Promise<Newcomer> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(30_000);
  const page = await context.newPage();
  return { context, page, complaints: new Complaints(page) };
}

/** Signs in by the form of the sign-in page that is shown. */
export async function signInByForm(page: Page, secret: string, login: string): Promise<void> {
  const form = page.getByRole('form', { name: 'Sign in' });
  await form.getByLabel('Secret', { exact: true }).fill(secret);
  await form.getByLabel('Login').fill(login);
  await form.getByRole('button', { name: 'Sign in' }).click();
}

/** The heading of the task that is shown. */
export function title(page: Page): Locator {
  return page.getByRole('main').getByRole('heading', { level: 1 });
}

/** Checks the state of the task that is shown, by its word. */
export async function isState(page: Page, word: string): Promise<void> {
  const header = page.locator('header').filter({ has: page.getByRole('heading', { level: 1 }) });
  try {
    await header.getByText(word, { exact: true }).waitFor();
  } catch (cause) {
    const [state, end] = [(await header.allInnerTexts()).join(' | '), (await transcript(page).innerText()).slice(-500)];
    throw new Error(`the task is not ${word}; its header says: ${state}\nits transcript ends: ${end}`, { cause });
  }
}

/** The stages of the task that is shown. */
export function provisioning(page: Page): Locator {
  return page.getByRole('region', { name: 'Provisioning' });
}

/** A stage by its name. */
export function stage(page: Page, name: string): Locator {
  return provisioning(page).getByRole('listitem').filter({ hasText: name });
}

/** The row of a task in the list, by its title. */
export function row(page: Page, named: string): Locator {
  return list(page).getByRole('link').filter({ hasText: named });
}

/** Chooses a panel and returns it. */
export async function panel(page: Page, name: string): Promise<Locator> {
  await page
    .getByRole('tablist', { name: 'Panels' })
    .getByRole('tab', { name: new RegExp(`^${name}`) })
    .click();
  return page.getByRole('tabpanel', { name: new RegExp(`^${name}`) });
}

/** Chooses an item of the task's action menu. */
export async function act(page: Page, item: string): Promise<void> {
  await page.getByRole('button', { name: 'More actions' }).click();
  await page.getByRole('menuitem', { name: item }).click();
}

/** Confirms a dialog. */
export async function confirm(page: Page, asks: string, deed: string): Promise<void> {
  const dialog = page.getByRole('dialog', { name: asks });
  await dialog.getByRole('button', { name: deed, exact: true }).click();
  await dialog.waitFor({ state: 'hidden' });
}

/** Opens the dialog by its shortcut, fills in the prompt, creates the task with Ctrl+Enter and waits for its page. */
export async function createByKeyboard(page: Page, prompt: string): Promise<string> {
  const before = page.url();
  await title(page).click(); // to leave any field
  await page.keyboard.press('c');
  const dialog = page.getByRole('dialog', { name: 'New task' });
  await dialog.getByLabel('Prompt').fill(prompt);
  await dialog.getByLabel('Prompt').press('Control+Enter');
  await page.waitForURL((url) => url.href !== before && /\/t\/task_/.test(url.pathname));
  return /task_[0-9a-f]+/.exec(page.url())?.[0] ?? '';
}

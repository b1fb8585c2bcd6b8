/** What a person sees and does in the workbench, found by the names that a screen reader would read. */
import { expect } from 'vitest';
import type { Locator, Page } from 'playwright-core';
import type { Mesh } from './mesh';
import { makeOrigin } from '@foundry/testing';

/** The list of tasks. */
export function list(page: Page): Locator {
  return page.getByRole('navigation', { name: 'Tasks and repositories' });
}

/** The transcript of the session that is shown. */
export function transcript(page: Page): Locator {
  return page.getByRole('log', { name: 'Transcript' });
}

/** What the agent said, message by message. */
export function said(page: Page): Locator {
  return transcript(page).getByRole('article', { name: /^Message from the agent/ });
}

/** Where messages are written. */
export function composer(page: Page): Locator {
  return page.getByRole('textbox', { name: 'Message', exact: true });
}

/** Sends a message to the session that is shown. */
export async function send(page: Page, text: string): Promise<void> {
  await composer(page).fill(text);
  await composer(page).press('Enter');
  await expect.poll(async () => await composer(page).inputValue()).toBe('');
}

/** Waits until the transcript shows a text. */
export async function shows(page: Page, text: string | RegExp, timeout = 60_000): Promise<void> {
  await transcript(page).getByText(text).last().waitFor({ timeout });
}

/** The text of the transcript, in order, without parts that depend on the time. */
export async function words(page: Page): Promise<string> {
  const text = await transcript(page).innerText();
  return text
    .replaceAll(/\b\d+ (min|h|d) ago\b|just now|\b\d+(\.\d+)?\s?(ms|s|min|h)\b/g, '')
    .replaceAll(/\s+/g, ' ')
    .trim();
}

/** Registers a new repository by the CLI, as the person `login`, and waits until it is mirrored. */
export function addRepository(mesh: Mesh, login: string, name = 'orchard'): void {
  mesh.cli('login', '--login', login);
  mesh.cli('repo', 'add', makeOrigin(mesh.dir, name), '--name', name);
}

/** Creates a task by the CLI without waiting for it; returns its id. */
export function createTask(mesh: Mesh, prompt: string, more: string[] = ['--allow'], repository = 'orchard'): string {
  const out = mesh.cli('task', 'create', prompt, '--repo', repository, '--detach', '--output', 'json', ...more);
  const id = /"taskId":\s*"(task_[0-9a-f]+)"/.exec(out)?.[1];
  if (!id) throw new Error(`no task id in ${out}`);
  return id;
}

/** The active organization in the address of a page. */
export function organizationOf(page: Page): string {
  return /\/o\/(org_[0-9a-f]+)/.exec(page.url())?.[1] ?? '';
}

/** Opens the page of a task. */
export async function openTask(page: Page, mesh: { url: string }, taskId: string): Promise<void> {
  await page.goto(`${mesh.url}/o/${organizationOf(page)}/t/${taskId}`);
  await transcript(page).waitFor();
}

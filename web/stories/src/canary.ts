/** Looks for a secret where it must not be, plain and in the forms in which it could be written. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import type { Page } from 'playwright-core';

/** A secret, percent-encoded, and in base64 whatever stands before it: three positions, without the characters that mix with others. */
export function forms(secret: string): string[] {
  const bytes = Buffer.from(secret);
  const base64 = [0, 1, 2].map((offset) => {
    const shifted = Buffer.concat([Buffer.alloc(offset), bytes])
      .toString('base64')
      .replace(/=+$/, '');
    return shifted.slice(offset === 0 ? 0 : offset + 1, -2);
  });
  const urlSafe = base64.map((text) => text.replaceAll('+', '-').replaceAll('/', '_'));
  return [...new Set([secret, encodeURIComponent(secret), JSON.stringify(secret).slice(1, -1), ...base64, ...urlSafe])];
}

/** Whether a text has it in one of these forms. */
export function found(text: string, secret: string): boolean {
  return forms(secret).some((form) => text.includes(form));
}

/** The files below a directory that contain it. */
export function filesWith(directory: string, secret: string): string[] {
  const patterns = forms(secret).flatMap((form) => ['-e', form]);
  const { status, stdout } = spawnSync('grep', ['-rlaF', '--devices=skip', ...patterns, directory], {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  // With 2 a file has ended while it was searched.
  if (status === null) throw new Error(`${directory} was not searched`);
  return stdout.split('\n').filter((line) => line !== '');
}

/** What is readable of a process. */
interface Process {
  readonly pid: string;
  readonly parent: string;
  readonly isGit: boolean;
  readonly words: string;
  /** Its environment and its arguments. */
  readonly text: string;
}

/** The processes of this machine, as far as they are readable. */
function processes(): Process[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const read = (name: string) => readFileSync(`/proc/${pid}/${name}`, 'latin1');
        const words = read('cmdline');
        const parent = /^PPid:\s*(\d+)/m.exec(read('status'))?.[1] ?? '';
        return [{ pid, parent, isGit: /^git\b/.test(read('comm')), words, text: `${read('environ')}\0${words}` }];
      } catch {
        return []; // It has ended.
      }
    });
}

/**
 * The processes that name a directory in their environment or arguments or descend from one that does, such as an agent in its
 * sandbox: those that have a secret there, and how many were looked at. A git of one operation is where the credential must be
 * (`crates/git/src/access.rs`).
 */
export function processesWith(directory: string, secret: string): { looked: number; bad: string[] } {
  const all = processes();
  const ours = new Set<string>();
  for (let before = -1; before < ours.size; ) {
    before = ours.size;
    for (const { pid, parent, text } of all) if (ours.has(parent) || text.includes(directory)) ours.add(pid);
  }
  const looked = all.filter(({ pid, isGit }) => ours.has(pid) && !isGit);
  const bad = looked.filter(({ text }) => found(text, secret));
  return { looked: looked.length, bad: bad.map(({ pid, words }) => `${pid}: ${words.replaceAll('\0', ' ')}`) };
}

/** The places in a page that have it: its document, the values of its fields, and what the browser stores for it. */
export async function partsWith(page: Page, secret: string): Promise<string[]> {
  const parts = {
    document: await page.content(),
    text: await page.locator('body').innerText(),
    address: page.url(),
    fields: await page.evaluate(() =>
      [...document.querySelectorAll('input, textarea')].map((it) => (it as HTMLInputElement).value).join('\n'),
    ),
    session: await page.evaluate(() => JSON.stringify(Object.entries(sessionStorage))),
    history: await page.evaluate(() => JSON.stringify(history.state)),
    stored: JSON.stringify(await page.context().storageState({ indexedDB: true })),
  };
  return Object.entries(parts).flatMap(([name, text]) => (found(text, secret) ? [name] : []));
}

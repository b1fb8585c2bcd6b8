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

function found(text: string, secret: string): boolean {
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

/**
 * The processes that name a directory in their environment or arguments, with how many were looked at. A git of one operation
 * is where the credential must be (`crates/git/src/access.rs`).
 */
export function processesWith(directory: string, secret: string): { looked: number; bad: string[] } {
  let looked = 0;
  const bad: string[] = [];
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const [environment, words] = ['environ', 'cmdline'].map((name) => readFileSync(`/proc/${pid}/${name}`, 'latin1'));
      const text = `${environment}\0${words}`;
      const isGit = /^git\b/.test(readFileSync(`/proc/${pid}/comm`, 'utf8'));
      if (isGit || !text.includes(directory)) continue;
      looked += 1;
      if (found(text, secret)) bad.push(`${pid}: ${words?.replaceAll('\0', ' ')}`);
    } catch {
      // It has ended.
    }
  }
  return { looked, bad };
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

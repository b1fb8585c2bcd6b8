/** Opens the page with empty caches and measures when a person could begin. */
import { request } from 'node:http';
import type { Browser } from 'playwright-core';
import type { Mesh } from '../mesh';
import { MeshProxy } from '@foundry/testing';
import { person } from '../browser';

declare global {
  interface Window {
    /** When the list was shown and the composer accepted text, in milliseconds since the navigation. */
    usable?: number;
  }
}

type Session = Awaited<ReturnType<import('playwright-core').BrowserContext['storageState']>>;

/** Signs in and returns what the browser stores of that, without any cache. */
export async function signedIn(browser: Browser, mesh: Mesh): Promise<Session> {
  const { context } = await person(browser, mesh, 'alice');
  const session = await context.storageState();
  await context.close();
  return session;
}

/**
 * Milliseconds from the navigation until the list is shown and the composer, if there is one, accepts text; with
 * empty caches.
 */
export async function coldLoad(browser: Browser, session: Session, url: string): Promise<number> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, storageState: session });
  await context.addInitScript(() => {
    const look = (): void => {
      const listed = document.querySelector('nav [data-row^="task/"]');
      const composer = document.querySelector<HTMLTextAreaElement>('textarea[aria-label=Message]');
      if (!listed || (/\/t\//.test(location.pathname) && (!composer || composer.disabled))) return;
      observer.disconnect();
      // After the paint, with time left for a key.
      requestAnimationFrame(() => setTimeout(() => (window.usable = performance.now())));
    };
    const observer = new MutationObserver(look);
    observer.observe(document, { childList: true, subtree: true, attributes: true });
  });
  const page = await context.newPage();
  await page.goto(url);
  await page.waitForFunction(() => window.usable !== undefined, undefined, { timeout: 60_000 });
  const usable = await page.evaluate(() => window.usable ?? 0);
  if (/\/t\//.test(url)) {
    const composer = page.getByRole('textbox', { name: 'Message', exact: true });
    await composer.pressSequentially('a');
    if ((await composer.inputValue()) !== 'a') throw new Error('the composer did not take a key');
    await composer.fill('');
  }
  await context.close();
  return usable;
}

/** A file of the page, and its size as it is transferred. */
export interface Part {
  readonly path: string;
  readonly bytes: number;
}

/** The files that a first screen loads, each compressed as for a browser that accepts only gzip. */
export async function partsOf(browser: Browser, mesh: Mesh, session: Session, path: string): Promise<Part[]> {
  const proxy = await MeshProxy.before(mesh.port);
  const { port } = new URL(proxy.url);
  // Cookies and storage of the mesh's origin are copied to the proxy's.
  const cookies = session.cookies.map((it) => ({ ...it, name: it.name.replace(String(mesh.port), port) }));
  const origins = session.origins.map((it) => ({ ...it, origin: proxy.url }));
  await coldLoad(browser, { cookies: [...session.cookies, ...cookies], origins }, proxy.url + path);
  proxy.close();
  const paths = new Set(proxy.requests.filter((it) => it.method === 'GET').map((it) => it.path));
  return await Promise.all([...paths].map(async (each) => ({ path: each, bytes: await gzipped(mesh.url + each) })));
}

async function gzipped(url: string): Promise<number> {
  return await new Promise((resolve, reject) => {
    const asked = request(url, { headers: { 'accept-encoding': 'gzip' } }, (answer) => {
      let bytes = 0;
      answer
        .on('data', (chunk: Buffer) => (bytes += chunk.length))
        .on('end', () => resolve(bytes))
        .on('error', reject);
    });
    asked.on('error', reject).end();
  });
}

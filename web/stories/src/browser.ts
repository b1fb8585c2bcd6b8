/** A real Chromium, and pages that record everything that goes wrong in them. */
import { spawnSync } from 'node:child_process';
import { type Browser, type BrowserContext, type Page, chromium } from 'playwright-core';
import { pageFontsRefused, SystemFonts } from './fonts';
import type { Mesh } from './mesh';

/** Debian's chromium, or what `CHROMIUM` names. */
function executable(): string {
  const named = process.env['CHROMIUM'];
  if (named) return named;
  const found = spawnSync('sh', ['-c', 'command -v chromium || command -v chromium-browser'], { encoding: 'utf8' }).stdout.trim();
  if (!found) throw new Error('chromium is missing: run `make tools-web`, or name one in CHROMIUM');
  return found;
}

/** An address that stands for another machine (RFC 5737); browsers started here resolve it to this one. */
const ANOTHER_MACHINE = '192.0.2.1';

/** An address of this machine in the form of another's, which the page can reach only over the network. */
export function elsewhere(url: string): string {
  return url.replace('//127.0.0.1:', `//${ANOTHER_MACHINE}:`);
}

/**
 * Starts a browser that makes no requests to other hosts than the mesh, and finds one family of fonts on its machine.
 */
export async function launch(): Promise<Browser> {
  const fonts = new SystemFonts();
  const browser = await chromium.launch({
    env: { ...process.env, FONTCONFIG_FILE: fonts.file },
    executablePath: executable(),
    headless: true,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--disable-dev-shm-usage',
      `--host-resolver-rules=MAP ${ANOTHER_MACHINE} 127.0.0.1`,
      ...(pageFontsRefused() ? ['--disable-remote-fonts'] : []),
    ],
  });
  browser.on('disconnected', () => fonts.remove());
  return browser;
}

/** Errors in a page: of scripts, refusals by the content security policy, unhandled rejections. */
export class Complaints {
  readonly all: string[] = [];

  constructor(
    page: Page,
    private readonly expected: RegExp[] = [],
  ) {
    page.on('pageerror', (error) => this.note(`error: ${error.message}`));
    page.on('console', (message) => {
      if (message.type() === 'error') this.note(`console: ${message.text()}`);
    });
  }

  private note(text: string): void {
    if (!this.expected.some((e) => e.test(text))) this.all.push(text);
  }
}

/** Messages of Chromium itself when the mesh is killed or cut off. */
export const LOST_NETWORK = [/net::ERR_/, /Failed to load resource/];

/** Opens the sign-in link of a mesh, which signs in at once, and waits for the workbench. */
export async function signIn(page: Page, mesh: Mesh, login: string, base = mesh.url): Promise<void> {
  await page.goto(`${base}/sign-in#secret=${encodeURIComponent(mesh.secret)}&login=${login}`);
  await page.waitForURL(/\/o\/org_/);
}

/** A context and page of one person, signed in. */
export async function person(browser: Browser, mesh: Mesh, login: string): Promise<{ context: BrowserContext; page: Page }> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  await signIn(page, mesh, login);
  return { context, page };
}

/** Takes the pictures of scenes: each in light and dark, at the width of a desktop and of a phone. */
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { test } from 'vitest';

/** Where the pictures are written. */
export const OUT = fileURLToPath(new URL('../../out', import.meta.url));

const sizes = [
  { width: 1280, height: 800, phone: false },
  { width: 390, height: 844, phone: true },
] as const;
const schemes = ['light', 'dark'] as const;

/** A page in a state, and how to bring it there. */
export interface Scene {
  /** `page-state`, the beginning of the name of the pictures. */
  readonly name: string;
  /** Path to open, or a full URL outside of the mesh. */
  readonly path: () => string;
  /** Brings the page into the state and waits until it shows. */
  readonly ready: (page: Page, phone: boolean) => Promise<void>;
  /** Undoes what the scene changed for others. */
  readonly after?: (page: Page) => Promise<void>;
  /** `nobody` opens it without a session; default: the person of the studio. */
  readonly as?: 'nobody';
  /** The only width at which the state exists; default: both. */
  readonly only?: 'desktop' | 'phone';
}

/** A browser with a context for each width, in which a person is signed in. */
export class Studio {
  private readonly contexts = new Map<number, BrowserContext>();

  constructor(
    private readonly browser: Browser,
    /** Address that paths are relative to. */
    private readonly base: string,
    private readonly signIn: (page: Page) => Promise<void>,
  ) {
    mkdirSync(OUT, { recursive: true });
  }

  /** Takes the four pictures of a scene. */
  async take(scene: Scene): Promise<void> {
    for (const size of sizes) {
      if (scene.only !== undefined && scene.only !== (size.phone ? 'phone' : 'desktop')) continue;
      const context = await this.context(size, scene.as === 'nobody');
      const page = await context.newPage();
      page.setDefaultTimeout(45_000);
      try {
        await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' });
        await page.goto(new URL(scene.path(), this.base).href);
        await scene.ready(page, size.phone);
        for (const scheme of schemes) {
          await page.emulateMedia({ colorScheme: scheme });
          await settled(page);
          await page.screenshot({ path: `${OUT}/${scene.name}-${scheme}-${size.width}.png`, animations: 'disabled', caret: 'hide' });
        }
      } catch (error) {
        await page.screenshot({ path: `${OUT}/failed-${scene.name}-${size.width}.png` }).catch(() => undefined);
        throw error;
      } finally {
        await scene.after?.(page).catch(() => undefined);
        if (scene.as === 'nobody') await context.close();
        else await page.close();
      }
    }
  }

  private async context(size: (typeof sizes)[number], nobody: boolean): Promise<BrowserContext> {
    const known = this.contexts.get(size.width);
    if (known !== undefined && !nobody) return known;
    const { width, height, phone } = size;
    const context = await this.browser.newContext({ viewport: { width, height }, hasTouch: phone, locale: 'en-GB', timezoneId: 'UTC' });
    if (nobody) return context;
    const page = await context.newPage();
    await this.signIn(page);
    await page.close();
    this.contexts.set(width, context);
    return context;
  }
}

/**
 * Waits until two pictures in a row would be the same except for clocks: no skeleton appears or disappears, fonts are
 * loaded.
 */
async function settled(page: Page): Promise<void> {
  await page.evaluate(async () => {
    await document.fonts.ready;
    await new Promise<void>((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())));
    await Promise.all(
      document
        .getAnimations()
        .map((it) => (it.effect?.getTiming().iterations === Infinity ? undefined : it.finished.catch(() => undefined))),
    );
  });
}

/** A test for each scene. */
export function takeAll(scenes: readonly Scene[], studio: () => Studio): void {
  for (const scene of scenes) test(scene.name, async () => await studio().take(scene));
}

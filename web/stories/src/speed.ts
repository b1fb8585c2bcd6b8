/** How responsive a page is: what blocked its main thread, and how long a key takes until its character is painted. */
import type { BrowserContext, Locator, Page } from 'playwright-core';

/** What the recorder collects in a page. */
interface Recorder {
  tasks: { start: number; duration: number }[];
  keys: number[];
}

declare global {
  interface Window {
    storySpeed?: Recorder;
  }
}

/** Records in every page of a context; call it before the pages are opened. */
export async function recordSpeed(context: BrowserContext): Promise<void> {
  await context.addInitScript(() => {
    const recorder: Recorder = { tasks: [], keys: [] };
    window.storySpeed = recorder;
    new PerformanceObserver((list) => {
      for (const { startTime, duration } of list.getEntries()) recorder.tasks.push({ start: startTime, duration });
    }).observe({ type: 'longtask', buffered: true });
    addEventListener(
      'keydown',
      ({ timeStamp }) => {
        // The task after the next frame runs when that frame has been painted.
        requestAnimationFrame(() => {
          const channel = new MessageChannel();
          channel.port1.onmessage = () => recorder.keys.push(performance.now() - timeStamp);
          channel.port2.postMessage(0);
        });
      },
      true,
    );
  });
}

/** Figures of a stretch of time, in milliseconds. */
export interface Speed {
  /** Longest task of the main thread; 0 = none above 50 ms. */
  readonly longestTask: number;
  /** Tasks above 50 ms. */
  readonly longTasks: number;
  /** From a key press to the painted character. */
  readonly keyMedian: number;
  readonly keyMax: number;
  /** Key presses that were measured. */
  readonly keys: number;
}

/** Discards what was recorded so far. */
export async function beginSpeed(page: Page): Promise<void> {
  await page.evaluate(() => {
    if (!window.storySpeed) throw new Error('nothing records here');
    window.storySpeed.tasks.length = 0;
    window.storySpeed.keys.length = 0;
  });
}

/** What was recorded since `beginSpeed`. */
export async function readSpeed(page: Page): Promise<Speed> {
  const { tasks, keys } = await page.evaluate(async () => {
    // Long tasks are reported after they have ended.
    await new Promise((resolve) => setTimeout(resolve, 100));
    return { tasks: window.storySpeed?.tasks ?? [], keys: window.storySpeed?.keys ?? [] };
  });
  const sorted = keys.toSorted((a, b) => a - b);
  return {
    longestTask: Math.round(Math.max(0, ...tasks.map((t) => t.duration))),
    longTasks: tasks.length,
    keyMedian: Math.round(sorted[Math.floor(sorted.length / 2)] ?? 0),
    keyMax: Math.round(sorted.at(-1) ?? 0),
    keys: sorted.length,
  };
}

/** Types a text key by key into a field, as a person would; it must be there at the end. */
export async function typeSlowly(field: Locator, text: string): Promise<void> {
  await field.focus();
  await field.pressSequentially(text, { delay: 60 });
}

/** The figures as text. */
export function speedText(speed: Speed): string {
  return `longest task ${speed.longestTask} ms (${speed.longTasks} above 50 ms), key to paint median ${speed.keyMedian} ms, max ${speed.keyMax} ms of ${speed.keys}`;
}

/** Generous, for a slow and busy machine: a stall takes seconds. */
const [LONGEST_TASK_MS, KEY_MEDIAN_MS, KEY_MAX_MS] = [2_000, 300, 3_000];

/** Asserts that a person who typed, or who only read, would not notice a stall. */
export function responsive(speed: Speed, typed = true): void {
  if (typed && speed.keys === 0) throw new Error('no key was measured');
  const within = speed.longestTask < LONGEST_TASK_MS && speed.keyMedian < KEY_MEDIAN_MS && speed.keyMax < KEY_MAX_MS;
  if (!within) throw new Error(`the page stalled: ${speedText(speed)}`);
}

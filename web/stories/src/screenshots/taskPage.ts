/** Addresses and waits for the scenes of a task. */
import type { Page } from 'playwright-core';
import type { TaskName, World } from './world';

/** The address of a task, optionally with a panel. */
export function taskPath(world: () => World): (name: TaskName, panel?: string) => () => string {
  return (name, panel) => () => {
    const { organizationId, tasks } = world();
    return `/o/${organizationId}/t/${tasks[name].taskId}${panel === undefined ? '' : `?panel=${panel}`}`;
  };
}

/** Waits until the transcript shows a text, and on a desktop until the panel beside it is loaded. */
export async function talks(page: Page, text: string | RegExp): Promise<void> {
  await page.getByRole('log', { name: 'Transcript' }).getByText(text).last().waitFor();
  await still(page);
}

/** Waits until nothing is being loaded any more. */
export async function still(page: Page): Promise<void> {
  await page.waitForFunction(() => document.querySelector('[aria-busy=true] .mantine-Skeleton-root, .mantine-Skeleton-root') === null);
}

/** How the scenes of a task are reached. */
import type { Page } from 'playwright-core';
import type { TaskName, World } from './world';

/** The address of a task, with a panel if there is one. */
export function taskPath(world: () => World): (name: TaskName, panel?: string) => () => string {
  return (name, panel) => () => {
    const { organizationId, tasks } = world();
    return `/o/${organizationId}/t/${tasks[name].taskId}${panel === undefined ? '' : `?panel=${panel}`}`;
  };
}

/** Waits until the transcript shows a text, and the panel beside it (on a desktop) what it has. */
export async function talks(page: Page, text: string | RegExp): Promise<void> {
  await page.getByRole('log', { name: 'Transcript' }).getByText(text).last().waitFor();
  await still(page);
}

/** Waits until nothing is being read any more. */
export async function still(page: Page): Promise<void> {
  await page.waitForFunction(() => document.querySelector('[aria-busy=true] .mantine-Skeleton-root, .mantine-Skeleton-root') === null);
}

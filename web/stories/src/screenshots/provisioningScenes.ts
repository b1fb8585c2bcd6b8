/** A task before its conversation: stages, failures, and after its end. */
import type { World } from './world';
import type { Scene } from './studio';
import { still, taskPath, talks } from './taskPage';

/** Provisioning in its states. */
export function provisioningScenes(world: () => World): Scene[] {
  const path = taskPath(world);
  return [
    {
      name: 'task-provisioning',
      path: path('provisioning'),
      ready: async (page) => {
        await page.getByText('Install agent').first().waitFor();
        await page.getByText('And add the sum').first().waitFor();
        await still(page);
      },
    },
    {
      name: 'task-retrying',
      path: path('retrying'),
      ready: async (page) => {
        await page
          .getByText(/attempt \d|Attempt \d/)
          .first()
          .waitFor();
        await still(page);
      },
    },
    {
      name: 'task-failed',
      path: path('failed'),
      ready: async (page) => {
        await page.getByRole('button', { name: 'Retry' }).first().waitFor();
        await still(page);
      },
    },
    {
      name: 'task-failed-explained',
      path: path('failed', 'explain'),
      ready: async (page) => {
        await page.getByRole('tabpanel').last().getByText('AGENT_MODEL_MISSING').first().waitFor();
      },
    },
    { name: 'task-killed', path: path('killed'), ready: async (page) => await talks(page, 'It is done.') },
    { name: 'task-archived', path: path('archived'), ready: async (page) => await talks(page, 'It is done.') },
  ];
}

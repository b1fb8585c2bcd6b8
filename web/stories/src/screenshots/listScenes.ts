/** The list, the start of an organization, the dialog for new tasks, and repositories. */
import type { Page } from 'playwright-core';
import { still } from './taskPage';
import type { Scene } from './studio';
import type { World } from './world';

async function listed(page: Page): Promise<void> {
  await page.getByRole('navigation', { name: 'Tasks and repositories' }).getByText('Build the parser').first().waitFor();
}

/** All scenes outside of a task. */
export function listScenes(world: () => World): Scene[] {
  const home = (): string => `/o/${world().organizationId}`;
  const repository = (name: keyof World['repositories']) => (): string => `${home()}/r/${world().repositories[name]}`;
  const filtered =
    (words: string): Scene['ready'] =>
    async (page) => {
      await listed(page);
      await page.getByRole('searchbox', { name: 'Filter tasks' }).fill(words);
    };
  return [
    {
      name: 'repository-pending',
      path: repository('pending'),
      ready: async (page) => {
        await page.getByRole('main').getByText('greenhouse').first().waitFor();
        await still(page);
      },
    },
    { name: 'list-all', path: home, ready: listed },
    {
      name: 'list-recent',
      path: home,
      ready: async (page) => {
        await listed(page);
        await page.getByText('Recent', { exact: true }).click();
      },
      after: async (page) => await page.getByText('Repository', { exact: true }).click(),
    },
    { name: 'list-filtered', path: home, ready: filtered('running') },
    {
      name: 'list-no-hits',
      path: home,
      ready: async (page, phone) => {
        await filtered('there is no such task')(page, phone);
        await page.getByText('No tasks match the filter').waitFor();
      },
    },
    {
      name: 'list-drawer',
      only: 'phone',
      path: repository('ready'),
      ready: async (page) => {
        await page.getByRole('button', { name: 'Open the list of tasks' }).click();
        await listed(page);
      },
    },
    {
      name: 'new-task-plain',
      path: () => `${home()}/new`,
      ready: async (page) => {
        await page.getByRole('dialog', { name: 'New task' }).getByRole('textbox', { name: 'Prompt' }).waitFor();
        await still(page);
      },
    },
    {
      name: 'new-task-incomplete',
      path: () => `${home()}/new`,
      ready: async (page) => {
        await page.getByRole('dialog', { name: 'New task' }).getByRole('textbox', { name: 'Prompt' }).waitFor();
        await page.getByRole('button', { name: /Create task/ }).click();
        await page.locator('[aria-invalid=true]').first().waitFor();
      },
    },
    {
      name: 'new-task-filled',
      path: () => `${home()}/new`,
      ready: async (page) => {
        const dialog = page.getByRole('dialog', { name: 'New task' });
        await dialog
          .getByRole('textbox', { name: 'Prompt' })
          .fill('Count the pears too.\n\nKeep the order of the rows as it is, and write a test.');
        await dialog
          .getByRole('textbox', { name: /Agent/ })
          .or(dialog.getByRole('combobox', { name: /Agent/ }))
          .first()
          .click();
        await page.getByRole('option').first().waitFor();
      },
      after: async (page) => {
        await page.keyboard.press('Escape');
        await page.getByRole('textbox', { name: 'Prompt' }).fill('');
        await page
          .getByText(/saved|kept/i)
          .first()
          .waitFor({ timeout: 3000 })
          .catch(() => undefined);
      },
    },
    {
      name: 'new-task-refused',
      path: () => `${home()}/new`,
      ready: async (page) => {
        const dialog = page.getByRole('dialog', { name: 'New task' });
        await dialog.getByRole('textbox', { name: 'Prompt' }).fill('Count the pears too.');
        await page.route(/TaskService\/CreateTask$/, async (route) => await route.abort());
        await page.getByRole('button', { name: /Create task/ }).click();
        await page.getByText('The task was not created').waitFor();
      },
      after: async (page) => await page.getByRole('textbox', { name: 'Prompt' }).fill(''),
    },
    {
      name: 'repository-with-tasks',
      path: repository('ready'),
      ready: async (page) => {
        await page.getByRole('main').getByText('harvest').first().waitFor();
        await still(page);
      },
    },
    {
      name: 'repository-error',
      path: repository('failing'),
      ready: async (page) => {
        await page.getByRole('main').getByText('meadow').first().waitFor();
        await still(page);
      },
    },
  ];
}

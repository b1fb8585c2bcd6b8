/** Changes, files, processes, activity and explanations of a task. */
import type { Page } from 'playwright-core';
import type { Scene } from './studio';
import { still, talks, taskPath } from './taskPage';
import type { World } from './world';

async function open(page: Page, file: string): Promise<void> {
  await page.getByRole('list', { name: 'Changed files' }).getByRole('button', { name: file, expanded: false }).click();
  await still(page);
}

async function folder(page: Page, name: string): Promise<void> {
  await page.getByRole('tree', { name: 'Files' }).getByText(name, { exact: true }).click();
}

async function recorded(page: Page): Promise<void> {
  await page.getByText('task.create').waitFor();
}

/** The panels beside the conversation. */
export function panelScenes(world: () => World): Scene[] {
  const path = taskPath(world);
  const changes = async (page: Page): Promise<void> => await page.getByRole('list', { name: 'Changed files' }).waitFor();
  return [
    {
      name: 'changes-unified',
      path: path('changed', 'changes'),
      ready: async (page) => {
        await changes(page);
        await open(page, 'greeting.txt');
      },
    },
    {
      name: 'changes-split',
      path: path('changed', 'changes'),
      ready: async (page) => {
        await changes(page);
        await page.getByText('Split', { exact: true }).click();
        await open(page, 'greeting');
        await open(page, 'branches');
      },
      after: async (page) => await page.getByText('Unified', { exact: true }).click(),
    },
    {
      name: 'changes-not-shown',
      path: path('changed', 'changes'),
      ready: async (page) => {
        await changes(page);
        for (const file of ['logo.bin', 'harvest.csv', 'picture.bin']) await open(page, file);
      },
    },
    {
      name: 'changes-review',
      path: path('changed', 'changes'),
      ready: async (page) => {
        await changes(page);
        await open(page, 'greeting.txt');
        const diff = page.getByRole('region', { name: 'Diff of src/greeting.txt' });
        await diff.locator('.diff-gutter[data-change-key="I1"]').last().click();
        await diff.getByRole('textbox', { name: 'Comment on line 1' }).fill('Why not “Good morning”?');
        await page.getByRole('button', { name: 'Send review' }).click();
      },
      after: async (page) => await page.getByRole('button', { name: 'Cancel' }).click(),
    },
    {
      name: 'changes-none',
      path: path('unchanged', 'changes'),
      ready: async (page) => await page.getByText(/No changes yet|No files changed/).waitFor(),
    },
    {
      name: 'files-tree',
      path: path('changed', 'files'),
      ready: async (page) => {
        await folder(page, 'src');
        await folder(page, 'parser');
        await page.getByRole('tree', { name: 'Files' }).getByText('branches.ts').waitFor();
      },
    },
    {
      name: 'files-file',
      path: path('changed', 'files'),
      ready: async (page) => {
        await folder(page, 'src');
        await folder(page, 'parser');
        await page.getByRole('tree', { name: 'Files' }).getByText('branches.ts').click();
        await page.getByRole('region', { name: 'Content' }).waitFor();
      },
    },
    {
      name: 'files-binary',
      path: path('changed', 'files'),
      ready: async (page) => {
        await folder(page, 'picture.bin');
        await page
          .getByText(/binary/i)
          .first()
          .waitFor();
      },
    },
    {
      name: 'files-too-large',
      path: path('changed', 'files'),
      ready: async (page) => {
        await folder(page, 'harvest.csv');
        await page
          .getByText(/too large|1 MiB/i)
          .first()
          .waitFor();
      },
    },
    {
      name: 'processes-list',
      path: path('running', 'processes'),
      ready: async (page) =>
        await page
          .getByRole('tabpanel')
          .last()
          .getByText(/sleep 900/)
          .first()
          .waitFor(),
    },
    {
      name: 'processes-sandbox-gone',
      path: path('gone', 'processes'),
      ready: async (page) => {
        await page
          .getByRole('tabpanel')
          .last()
          .getByText(/gone|destroyed|no sandbox|lost/i)
          .first()
          .waitFor();
      },
    },
    { name: 'activity', path: path('held', 'activity'), ready: recorded },
    { name: 'activity-people', path: path('sessions', 'activity'), ready: recorded },
    {
      name: 'explain-asking',
      path: path('asking', 'explain'),
      ready: async (page) => {
        await page
          .getByText(/permission/i)
          .last()
          .waitFor();
        await still(page);
      },
    },
    { name: 'explain-provisioning', path: path('provisioning', 'explain'), ready: still },
    { name: 'panels-hidden', only: 'desktop', path: path('long', 'none'), ready: async (page) => await talks(page, /the season is there/) },
  ];
}

/** The models of an organization, and the dialogs that add and change them. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser, Locator, Page } from 'playwright-core';
import { afterAll, beforeAll } from 'vitest';
import { Api } from '../api';
import { launch, signIn } from '../browser';
import { Mesh } from '../mesh';
import { type Scene, Studio, takeAll } from './studio';

let mesh: Mesh;
let browser: Browser;
let studio: Studio;
let organization = '';

const SERVERS = {
  issues: { type: 'http', url: 'https://mcp.example/issues' },
  files: { command: 'files-mcp', args: ['--read-only', '/srv/orchard'] },
};

beforeAll(async () => {
  mesh = await Mesh.start();
  organization = (await Api.signIn(mesh, 'alice')).organizationId;
  mesh.cli('login', '--login', 'alice');
  const file = join(mesh.dir, 'servers.json');
  writeFileSync(file, JSON.stringify({ mcpServers: SERVERS }));
  const models = [
    '--model',
    'orchard-large',
    '--model',
    'orchard-small',
    '--price',
    'orchard-large=3,15,0.3',
    '--price',
    'orchard-small=0.25,1.25',
  ];
  const headers = ['--header', 'x-team=blue', '--header', 'x-project=orchard'];
  mesh.cli('model', 'add', 'gateway', '--kind', 'anthropic', '--url', 'https://models.example', '--no-key', ...headers, ...models);
  mesh.cli('model', 'add', 'home', '--kind', 'openai-compatible', '--url', 'http://127.0.0.1:11434/v1', '--no-key');
  const profile = [
    '--agent',
    'claude',
    '--model-provider',
    'gateway',
    '--model',
    'orchard-large',
    '--effort',
    'high',
    '--env',
    'CI=yes',
    '--mcp',
    file,
  ];
  mesh.cli('profile', 'add', 'night', ...profile, '--default');
  browser = await launch();
  studio = new Studio(browser, mesh.url, async (page) => await signIn(page, mesh, 'alice'));
});

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
});

/** A scene of a dialog over the models. */
function over(name: string, button: string, fill: (dialog: Locator, page: Page) => Promise<void> = async () => {}): Scene {
  return {
    name: `models-${name}`,
    path: () => `/o/${organization}/models`,
    ready: async (page) => {
      await page.getByRole('button', { name: button }).click();
      const dialog = page.getByRole('dialog', { name: button });
      await dialog.waitFor();
      await fill(dialog, page);
    },
  };
}

async function unfold(dialog: Locator): Promise<void> {
  const more = dialog.getByText(/^More/);
  await more.click();
  await more.evaluate((it) => it.scrollIntoView({ block: 'start' }));
}

/** Changes the model provider by the command line while the dialog is open; to other models each time. */
let times = 0;
async function overtaken(dialog: Locator): Promise<void> {
  times += 1;
  await dialog.getByLabel(/^Models/).fill('orchard-large, orchard-huge');
  mesh.cli('model', 'update', 'gateway', '--model', 'orchard-large', '--model', `orchard-small-${times}`);
  await dialog.getByRole('button', { name: 'Change model provider' }).click();
  await dialog.getByText('Someone else saved changes while you were editing.').evaluate((it) => it.scrollIntoView({ block: 'center' }));
}

const scenes: Scene[] = [
  {
    name: 'models-page',
    path: () => `/o/${organization}/models`,
    ready: async (page) => await page.getByText('orchard-large', { exact: true }).waitFor(),
  },
  over('provider-add', 'Add model provider'),
  over('provider-add-incomplete', 'Add model provider', async (dialog) => {
    await unfold(dialog);
    await dialog.getByRole('button', { name: 'Add header' }).click();
    await dialog.getByRole('button', { name: 'Add price' }).click();
    await dialog.getByRole('button', { name: 'Add model provider' }).click();
    await dialog.getByText('The value is required.').waitFor();
  }),
  over('provider-change', 'Change gateway'),
  over('provider-change-more', 'Change gateway', unfold),
  over('provider-change-overtaken', 'Change gateway', overtaken),
  over('profile-add', 'Add agent profile'),
  over('profile-change', 'Change night'),
  over('profile-change-more', 'Change night', unfold),
];

takeAll(scenes, () => studio);

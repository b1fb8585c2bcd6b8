/** A repository at a forge in all its states: stacks with pull requests, actions on them, stale, wanting a credential. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { RepositoryCredentialKind } from '@foundry/client/gen/foundry/repo/v1/credential_pb';
import { RepositoryWebhookForge } from '@foundry/client/gen/foundry/repo/v1/webhook_pb';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll } from 'vitest';
import { Api } from '../api';
import { launch, signIn } from '../browser';
import { Forge, git } from '../forge';
import { Mesh } from '../mesh';
import { Maker, until } from './made';
import { type Scene, Studio, takeAll } from './studio';
import { still } from './taskPage';

const TOKEN = 'token-0123456789-wxyz';
const LONG = 'alice/2026-12/count-the-pears-of-every-row-and-write-them-into-the-table-of-the-orchard-with-their-colours';

let forge: Forge;
let mesh: Mesh;
let browser: Browser;
let studio: Studio;
let organizationId: string;
let stacks: string;
let empty: string;
let greenhouse: string;
let hedge: string;

beforeAll(async () => {
  forge = await Forge.start();
  await planted('team/orchard');
  forge.emptyRepository('team/empty');
  forge.repository('team/hedge');
  forge.repository('team/greenhouse');
  mesh = await Mesh.start([...forge.settings, 'repo.poll_active=2s']);
  const api = await Api.signIn(mesh, 'alice');
  ({ organizationId } = api);
  const maker = new Maker(api);
  empty = await maker.repository(forge.url('team/empty'), 'meadow');
  hedge = await maker.repository(forge.url('team/hedge'), 'hedge');
  await forge.require(TOKEN);
  const add = async (name: string): Promise<string> =>
    (await api.repo.createRepository({ organizationId, url: forge.url(`team/${name}`), name })).repository?.repositoryId ?? '';
  greenhouse = await add('greenhouse');
  stacks = await add('orchard');
  await api.repo.createRepositoryCredential({
    organizationId,
    target: { case: 'repositoryId', value: stacks },
    kind: RepositoryCredentialKind.TOKEN,
    secret: { value: TOKEN },
  });
  await api.repo.createRepositoryWebhook({
    organizationId,
    target: { case: 'repositoryId', value: stacks },
    forge: RepositoryWebhookForge.GITHUB,
  });
  await until(
    'pull requests',
    async () => (await api.repo.getRepository({ repositoryId: stacks })).repository?.pullRequestSync?.openCount === 4,
  );
  browser = await launch();
  studio = new Studio(browser, mesh.url, async (page) => await signIn(page, mesh, 'alice'));
});

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
  await forge?.close();
});

/** A stack with pull requests in every state, behind main and in conflict with it. */
async function planted(name: string): Promise<void> {
  const tree = forge.repository(name);
  const commit = (file: string, text: string, subject: string, branch: string, from = branch): void => {
    git(tree, 'fetch', '--quiet', 'origin');
    git(tree, 'checkout', '--quiet', '-B', branch, `origin/${from}`);
    writeFileSync(join(tree, file), text);
    git(tree, 'add', '.');
    git(tree, 'commit', '--quiet', '-m', subject);
    git(tree, 'push', '--quiet', 'origin', branch);
  };
  commit('src/rows.txt', 'rows of pears\n', 'Add rows', 'pears/rows', 'main');
  commit('src/count.txt', 'counts them\n', 'Count the rows', 'pears/count', 'pears/rows');
  commit(
    'src/page.txt',
    'shows the count\n',
    'Show the count on the page of the orchard, below the picture of the tree',
    'pears/page',
    'pears/count',
  );
  commit('src/greeting.txt', 'Good day, orchard.\n', 'Greet politely', 'greeting', 'main');
  commit(
    'src/long.txt',
    'long\n',
    'Count the pears of every row and write them into the table of the orchard, with their colours',
    LONG,
    'main',
  );
  commit('src/greeting.txt', 'Hail, orchard.\n', 'Hail the orchard', 'main');
  const open = async (branch: string, base: string, title: string): Promise<number> => await forge.open(name, branch, base, title);
  await open('pears/rows', 'main', 'Rows of pears');
  await forge.check(name, 'pears/rows', 'unit tests', 'passed');
  await forge.review(name, 1, 'bob', 'APPROVED');
  await open('pears/count', 'pears/rows', 'Count the rows');
  await forge.check(name, 'pears/count', 'unit tests', 'failed');
  await forge.check(name, 'pears/count', 'lint', 'passed');
  await open('greeting', 'main', 'Greet politely');
  await forge.check(name, 'greeting', 'unit tests', 'pending');
  await forge.review(name, 3, 'bob', 'CHANGES_REQUESTED');
  await open(LONG, 'main', 'Count the pears of every row');
}

const at = (repository: () => string) => (): string => `/o/${organizationId}/r/${repository()}`;

async function listed(page: Page): Promise<void> {
  await page.getByText('pears/page', { exact: true }).waitFor();
  await page.getByText('Webhook of GitHub').waitFor();
  await still(page);
}

/** Opens the actions on a branch and plans the first of them. */
const planned =
  (branch: string, words: RegExp): Scene['ready'] =>
  async (page) => {
    await listed(page);
    await page.getByRole('button', { name: `Actions on ${branch}`, exact: true }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByRole('button', { name: 'Show plan' }).click();
    await dialog.getByText(words).first().waitFor();
  };

takeAll(
  [
    { name: 'repository-stacks', path: at(() => stacks), ready: listed },
    {
      name: 'repository-stacks-all',
      path: at(() => stacks),
      ready: async (page) => {
        await listed(page);
        await page.getByText(LONG, { exact: true }).scrollIntoViewIfNeeded();
        await page.getByRole('button', { name: 'Actions on all branches…' }).scrollIntoViewIfNeeded();
      },
    },
    { name: 'repository-plan', path: at(() => stacks), ready: planned('pears/rows', /a plan for 3 branches/) },
    { name: 'repository-conflict', path: at(() => stacks), ready: planned('greeting', /is in conflict with/) },
    {
      name: 'repository-webhook-add',
      path: at(() => stacks),
      ready: async (page) => {
        await listed(page);
        await page.getByRole('region', { name: 'Webhooks' }).getByRole('button', { name: 'Add webhook' }).click();
      },
    },
    {
      name: 'repository-credential',
      path: at(() => greenhouse),
      ready: async (page) => await page.getByLabel('Token or password').waitFor(),
    },
    { name: 'repository-empty', path: at(() => empty), ready: async (page) => await page.getByText('It has no branches').waitFor() },
    {
      name: 'repository-stale',
      path: at(() => hedge),
      ready: async (page) => {
        await page.getByRole('button', { name: 'Refresh' }).click();
        await page
          .getByText(/CREDENTIALS_/)
          .first()
          .waitFor();
      },
    },
  ],
  () => studio,
);

/** A stack of branches at a host: main moves on, the stack is planned, pushed and undone, and a conflict is handed to an agent. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser, Locator, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { RepositoryCredentialKind } from '@foundry/client/gen/foundry/repo/v1/credential_pb';
import { Api } from './api';
import { rests, wrongs } from './axe';
import { launch, signIn } from './browser';
import { Forge, git } from './forge';
import { Mesh } from './mesh';
import { type Newcomer, newcomer, title } from './page';

const TOKEN = 'token-0123456789-wxyz';
const NAME = 'team/orchard';
const STACK = ['pears/rows', 'pears/count', 'pears/page'] as const;

let forge: Forge;
let mesh: Mesh;
let browser: Browser;
let me: Newcomer;
let page: Page;
/** The tree in which somebody else works. */
let tree: string;

beforeAll(async () => {
  forge = await Forge.start();
  tree = forge.repository(NAME);
  commit('src/rows.txt', 'rows of pears\n', 'Add rows', STACK[0], 'main');
  commit('src/count.txt', 'counts them\n', 'Count the rows', STACK[1], STACK[0]);
  commit('src/page.txt', 'shows the count\n', 'Show the count', STACK[2], STACK[1]);
  await forge.open(NAME, STACK[0], 'main', 'Rows of pears');
  mesh = await Mesh.start(forge.settings);
  await forge.require(TOKEN);
  const api = await Api.signIn(mesh, 'alice');
  const { organizationId } = api;
  const target = { case: 'host', value: new URL(forge.url(NAME)).origin } as const;
  await api.repo.createRepositoryCredential({
    organizationId,
    target,
    kind: RepositoryCredentialKind.TOKEN,
    secret: { value: TOKEN },
  });
  await api.repo.createRepository({ organizationId, url: forge.url(NAME), name: 'orchard' });
  browser = await launch();
  me = await newcomer(browser, { reducedMotion: 'reduce' });
  page = me.page;
  await signIn(page, mesh, 'alice');
  await page
    .getByRole('navigation', { name: 'Tasks and repositories' })
    .getByRole('link', { name: /orchard/ })
    .first()
    .click();
});

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
  await forge?.close();
});

/** Somebody else pushes a commit onto a branch, which begins at another one if it is new. */
function commit(file: string, text: string, subject: string, branch = 'main', from = branch): void {
  git(tree, 'fetch', '--quiet', 'origin');
  git(tree, 'checkout', '--quiet', '-B', branch, `origin/${from}`);
  writeFileSync(join(tree, file), text);
  git(tree, 'add', '.');
  git(tree, 'commit', '--quiet', '-m', subject);
  git(tree, 'push', '--quiet', 'origin', branch);
}

const tips = (): string[] => STACK.map((branch) => forge.tip(NAME, branch));

function row(branch: string): Locator {
  return page.getByRole('row').filter({ has: page.getByText(branch, { exact: true }) });
}

/** Has the branches read again, and waits until a branch stands so to the one below it. */
async function refreshed(branch: string, words: string): Promise<void> {
  await page.getByRole('button', { name: 'Refresh' }).click();
  await row(branch).getByRole('img', { name: words }).first().waitFor();
}

/** Opens the actions on a branch. */
async function actionsOn(branch: string): Promise<Locator> {
  await page.getByRole('button', { name: `Actions on ${branch}` }).click();
  return page.getByRole('dialog', { name: `Actions on ${branch}` });
}

async function closed(dialog: Locator): Promise<void> {
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'hidden' });
}

test('each branch is shown on the one below it, and falls behind when somebody pushes to main', async () => {
  await row(STACK[2]).waitFor();
  const names = await page.getByRole('row').locator('td:first-child > div:first-child > bdi').allInnerTexts();
  expect(names).toEqual(['main', 'harvest', ...STACK]);
  await row(STACK[1])
    .getByRole('img', { name: `1 ahead of ${STACK[0]}, 0 behind` })
    .waitFor();
  await row(STACK[0]).getByText('Pull request #1').waitFor();
  commit('src/apples.txt', 'apples\n', 'Count apples');
  await refreshed(STACK[0], '1 ahead of main, 1 behind');
  await row(STACK[0]).getByText('1 behind main').waitFor();
  await rests(page, 'light');
  expect(await wrongs(page, false)).toEqual([]);
});

test('the stack is planned, pushed and undone', async () => {
  const before = tips();
  // By keyboard alone.
  const opener = page.getByRole('button', { name: `Actions on ${STACK[0]}` });
  const dialog = page.getByRole('dialog', { name: `Actions on ${STACK[0]}` });
  await opener.press('Enter');
  await dialog.getByRole('button', { name: 'Show plan' }).press('Enter');
  const plan = dialog.getByRole('region', { name: 'Plan' });
  await plan.getByText(`Restack ${STACK[0]}: a plan for 3 branches`).waitFor();
  for (const branch of STACK) await plan.getByText(new RegExp(`^${branch}: [0-9a-f]{12} → [0-9a-f]{12}`)).waitFor();
  expect(tips()).toEqual(before);
  expect(await wrongs(page, false)).toEqual([]);

  await dialog.getByRole('button', { name: 'Push 3 branches' }).press('Enter');
  const action = dialog.getByRole('region', { name: 'Action', exact: true });
  await action.getByText('3 branches pushed').waitFor();
  expect(git(tree, 'fetch', '--quiet', 'origin')).toBe('');
  expect(git(tree, 'log', '--format=%s', `origin/${STACK[2]}`).split('\n')).toEqual([
    'Show the count',
    'Count the rows',
    'Add rows',
    'Count apples',
    'Plant the orchard',
  ]);
  await closed(dialog);
  await row(STACK[0]).getByRole('img', { name: '1 ahead of main, 0 behind' }).first().waitFor();

  const again = await actionsOn(STACK[0]);
  await again.getByRole('region', { name: 'Earlier action 1' }).getByRole('button', { name: 'Undo' }).click();
  await again.getByText('Undo: 3 branches pushed').waitFor();
  expect(tips()).toEqual(before);
  await closed(again);
  await row(STACK[0]).getByRole('img', { name: '1 ahead of main, 1 behind' }).first().waitFor();
});

test('a conflict names its files, changes nothing, and is handed to an agent', async () => {
  commit('src/rows.txt', 'rows of plums\n', 'Add other rows');
  await refreshed(STACK[0], '1 ahead of main, 2 behind');
  await row(STACK[0]).getByText('1 conflict').waitFor();
  const before = tips();
  const dialog = await actionsOn(STACK[0]);
  await dialog.getByRole('button', { name: 'Show plan' }).click();
  const plan = dialog.getByRole('region', { name: 'Plan' });
  await plan.getByText(/is in conflict with main in src\/rows\.txt/).waitFor();
  expect(await dialog.getByRole('button', { name: /^Push/ }).count()).toBe(0);
  expect(tips()).toEqual(before);
  expect(await wrongs(page, false)).toEqual([]);
  await plan.getByRole('button', { name: 'Have an agent resolve it' }).click();
  await title(page).getByText(`Resolve conflicts of ${STACK[0]}`).waitFor();
  await page.getByRole('log', { name: 'Transcript' }).getByText('src/rows.txt').first().waitFor();
  expect(me.complaints.all).toEqual([]);
});

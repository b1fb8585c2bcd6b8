/** Signing in, an organization without anything in it, and what opens on top of the page. */
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll } from 'vitest';
import { Api } from '../api';
import { launch, signIn } from '../browser';
import { Mesh } from '../mesh';
import { Maker } from './made';
import { makeOrigin } from '@foundry/testing';
import { still } from './taskPage';
import { type Scene, Studio, takeAll } from './studio';

let mesh: Mesh;
let browser: Browser;
let studio: Studio;
let empty = '';
let furnished = '';
let repository = '';

beforeAll(async () => {
  mesh = await Mesh.start();
  const first = await Api.signIn(mesh, 'alice');
  empty = first.organizationId;
  const second = await first.auth.createOrganization({ name: 'orchard-keepers' });
  furnished = second.organization?.organizationId ?? '';
  await first.auth.createOrganization({ name: 'a-name-as-long-as-any-name-of-them-gets' });
  const api = await Api.signIn(mesh, 'alice', 'orchard-keepers');
  repository = await new Maker(api).repository(makeOrigin(mesh.dir, 'orchard'), 'orchard');
  browser = await launch();
  studio = new Studio(browser, mesh.url, async (page) => await signIn(page, mesh, 'alice'));
});

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
});

const at =
  (path = '') =>
  () =>
    `/o/${empty}${path}`;
const within =
  (path = '') =>
  () =>
    `/o/${furnished}${path}`;

async function dialog(page: Page, name: string): Promise<void> {
  await page.getByRole('dialog', { name }).waitFor();
}

async function listShown(page: Page): Promise<void> {
  await page.getByText('orchard', { exact: true }).first().waitFor();
}

const signInScenes: Scene[] = [
  {
    name: 'sign-in-plain',
    as: 'nobody',
    path: () => '/sign-in',
    ready: async (page) => await page.getByRole('button', { name: 'Sign in' }).waitFor(),
  },
  {
    name: 'sign-in-incomplete',
    as: 'nobody',
    path: () => '/sign-in',
    ready: async (page) => {
      await page.getByRole('textbox', { name: 'Login' }).fill('not a login!');
      await page.getByRole('button', { name: 'Sign in' }).click();
      await page.getByText('The secret is required.').waitFor();
    },
  },
  {
    name: 'sign-in-refused',
    as: 'nobody',
    path: () => '/sign-in#secret=wrong&login=alice',
    ready: async (page) => await page.getByText('Sign-in failed').waitFor(),
  },
  {
    name: 'sign-in-session-ended',
    as: 'nobody',
    path: () => '/sign-in',
    ready: async (page) => {
      await signIn(page, mesh, 'alice');
      await page.getByRole('navigation', { name: 'Tasks and repositories' }).waitFor();
      // Signed out by another client: the page notices and shows that.
      const key = await page.evaluate(() => localStorage.getItem('foundry-session-key') ?? '');
      await page.evaluate(async (sessionKey) => {
        await fetch('/foundry.auth.v1.AuthService/SignOut', {
          method: 'POST',
          headers: { 'content-type': 'application/grpc-web+proto', 'x-grpc-web': '1', 'x-foundry-session-key': sessionKey },
          body: new Uint8Array(5),
        });
      }, key);
      await page.getByText('Your session has ended').waitFor();
    },
  },
  {
    name: 'sign-in-signed-out',
    as: 'nobody',
    path: () => '/sign-in',
    ready: async (page) => {
      await signIn(page, mesh, 'alice');
      await page.getByRole('button', { name: 'Account of alice' }).click();
      await page.getByRole('menuitem', { name: 'Sign out' }).click();
      await page.waitForURL(/sign-in/);
      await page.getByRole('button', { name: 'Sign in' }).waitFor();
    },
  },
];

const emptyScenes: Scene[] = [
  {
    name: 'organization-empty',
    path: at(),
    ready: async (page) => await page.getByRole('button', { name: 'Add repository' }).last().waitFor(),
  },
  {
    name: 'new-task-no-repository',
    path: at('/new'),
    ready: async (page) => await dialog(page, 'New task'),
  },
  {
    name: 'organization-foreign',
    path: () => '/o/org_00000000000000000000000000000000',
    ready: async (page) => await page.getByText('You do not have access').waitFor(),
  },
  {
    name: 'not-found-outside',
    path: () => '/nowhere/at/all',
    ready: async (page) => await page.getByText('Page not found').waitFor(),
  },
  {
    name: 'not-found-inside',
    path: within('/x/y'),
    ready: async (page) => {
      await page.getByText('Page not found').waitFor();
      await still(page);
    },
  },
  {
    name: 'task-not-found',
    path: within('/t/task_00000000000000000000000000000000'),
    ready: async (page) => await page.getByText('Task not found').waitFor(),
  },
  {
    name: 'repository-not-found',
    path: within('/r/repo_00000000000000000000000000000000'),
    ready: async (page) => await page.getByText('Repository not found').waitFor(),
  },
];

const overlays: Scene[] = [
  {
    name: 'organization-no-tasks',
    path: within(),
    ready: listShown,
  },
  {
    name: 'add-repository-plain',
    path: within(),
    ready: async (page) => {
      await page.getByRole('button', { name: 'Add repository' }).first().click();
      await dialog(page, 'Add repository');
    },
  },
  {
    name: 'add-repository-refused',
    path: within(),
    ready: async (page) => {
      await page.getByRole('button', { name: 'Add repository' }).first().click();
      await page.getByRole('textbox', { name: 'URL' }).fill('https://127.0.0.1/secret.git');
      await page.getByRole('dialog').getByRole('button', { name: 'Add repository' }).click();
      await page.getByText('an address that is not allowed here').waitFor();
    },
  },
  {
    name: 'add-repository-incomplete',
    path: within(),
    ready: async (page) => {
      await page.getByRole('button', { name: 'Add repository' }).first().click();
      await page.getByRole('textbox', { name: 'URL' }).fill('orchard');
      await page.getByRole('dialog').getByRole('button', { name: 'Add repository' }).click();
      await page.getByRole('textbox', { name: 'URL' }).and(page.locator('[aria-invalid=true]')).waitFor();
    },
  },
  {
    name: 'organization-switcher',
    path: within(),
    ready: async (page) => {
      await page.getByRole('button', { name: /^Organization .*, switch/ }).click();
      await page.getByRole('menuitem', { name: /orchard-keepers/ }).waitFor();
    },
  },
  {
    name: 'user-menu',
    path: within(),
    ready: async (page) => {
      await page.getByRole('button', { name: 'Account of alice' }).click();
      await page.getByRole('menuitem', { name: 'Sign out' }).waitFor();
    },
  },
  {
    name: 'shortcuts',
    path: within(),
    ready: async (page) => {
      await listShown(page);
      await page.keyboard.press('?');
      await page.getByRole('dialog').waitFor();
    },
  },
  {
    name: 'event-log',
    path: within(),
    ready: async (page) => {
      await listShown(page);
      await page.keyboard.press('g');
      await page.keyboard.press('e');
      await page.getByRole('dialog').waitFor();
    },
  },
  {
    name: 'repository-ready',
    path: () => `/o/${furnished}/r/${repository}`,
    ready: async (page) => await page.getByRole('main').getByText('harvest').waitFor(),
  },
  {
    name: 'repository-delete',
    path: () => `/o/${furnished}/r/${repository}`,
    ready: async (page) => {
      await page.getByRole('main').getByText('harvest').waitFor();
      await page.getByRole('main').getByRole('button', { name: 'Delete' }).click();
      await page.getByRole('dialog').waitFor();
    },
  },
];

takeAll([...signInScenes, ...emptyScenes, ...overlays], () => studio);

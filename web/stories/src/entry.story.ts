/** Signing in, switching between organizations, and signing out. */
import { randomUUID } from 'node:crypto';
import type { Browser } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { Api } from './api';
import { Complaints, launch, signIn } from './browser';
import { Mesh } from './mesh';
import { type Newcomer, newcomer, row, signInByForm, title } from './page';
import { addRepository, createTask, list, organizationOf, shows } from './workbench';

let mesh: Mesh;
let browser: Browser;
let me: Newcomer;
let task: string;

beforeAll(async () => {
  mesh = await Mesh.start();
  addRepository(mesh, 'alice');
  task = createTask(mesh, 'say a word of welcome');
  browser = await launch();
});

afterEach(async () => await me?.context.close());

afterAll(async () => {
  await browser?.close();
  await mesh?.dispose();
});

test('a wrong secret is refused with its reason and what helps, and the right one lets in', async () => {
  me = await newcomer(browser);
  const { page } = me;
  await page.goto(mesh.url);
  await page.waitForURL(/\/sign-in$/);
  await signInByForm(page, 'not-the-secret', 'alice');
  const alert = page.getByRole('alert').filter({ hasText: 'Sign-in failed' });
  await alert.getByText('SIGN_IN_SECRET_WRONG', { exact: true }).waitFor();
  expect(await page.getByLabel('Login').inputValue()).toBe('alice');
  await signInByForm(page, mesh.secret, 'alice');
  await page.waitForURL(/\/o\/org_/);
  await row(page, 'a word of welcome').waitFor();
  expect(await alert.count()).toBe(0);
  expect(me.complaints.all).toEqual([]);
});

test('a form without a login says what is missing and asks nothing of the mesh', async () => {
  me = await newcomer(browser);
  const { page } = me;
  await page.goto(`${mesh.url}/sign-in`);
  const asked: string[] = [];
  page.on('request', (request) => asked.push(request.url()));
  await signInByForm(page, mesh.secret, '');
  await page.getByText('Login is required.').waitFor();
  expect(asked.filter((url) => url.includes('CompleteSignIn'))).toEqual([]);
  expect(me.complaints.all).toEqual([]);
});

test('the sign-in link signs in by itself, and the secret is neither in the address nor in the history', async () => {
  me = await newcomer(browser);
  const { page } = me;
  await page.goto(mesh.url);
  await page.waitForURL(/\/sign-in$/);
  await signIn(page, mesh, 'alice');
  expect(page.url()).not.toContain(mesh.secret);
  await page.goBack();
  await page.getByText('You are already signed in').or(list(page)).first().waitFor();
  expect(page.url()).not.toContain(mesh.secret);
  expect(me.complaints.all).toEqual([]);
});

test('a deep link asks to sign in and then shows what it points at; back and forward go through the pages', async () => {
  const organization = (await Api.signIn(mesh, 'alice')).organizationId;
  me = await newcomer(browser);
  const { page } = me;
  const deep = `${mesh.url}/o/${organization}/t/${task}?panel=explain`;
  await page.goto(deep);
  await page.waitForURL(/\/sign-in$/);
  await signInByForm(page, mesh.secret, 'alice');
  await page.waitForURL(deep);
  await shows(page, 'a word of welcome');
  await page.getByRole('tab', { name: 'Explain', selected: true }).waitFor();
  await list(page)
    .getByRole('link', { name: /^orchard/ })
    .click();
  await page.getByRole('heading', { level: 1, name: 'orchard' }).waitFor();
  await page.goBack();
  await shows(page, 'a word of welcome');
  expect(page.url()).toBe(deep);
  await page.goForward();
  await page.getByRole('heading', { level: 1, name: 'orchard' }).waitFor();
  expect(me.complaints.all).toEqual([]);
});

test('addresses that lead nowhere say so', async () => {
  me = await newcomer(browser);
  const { page } = me;
  await signIn(page, mesh, 'alice');
  const home = `${mesh.url}/o/${organizationOf(page)}`;
  await page.goto(`${home}/t/task_${'0'.repeat(32)}`);
  await page.getByText('Task not found').waitFor();
  await page.goto(`${mesh.url}/o/org_${'0'.repeat(32)}`);
  await page.getByText('You do not have access to this organization').waitFor();
  await page.goto(`${home}/nowhere`);
  await title(page).waitFor();
  expect(me.complaints.all).toEqual([]);
});

test('a new organization appears in the switcher without a reload, and is the first one from then on', async () => {
  me = await newcomer(browser);
  const { page } = me;
  await signIn(page, mesh, 'alice');
  await row(page, 'a word of welcome').waitFor();
  const first = organizationOf(page);
  const { auth } = await Api.signIn(mesh, 'alice');
  const created = await auth.createOrganization({ requestId: randomUUID(), name: 'greenhouse' });
  const second = created.organization?.organizationId ?? '';
  await page.getByRole('button', { name: /^Organization alice/ }).click();
  await page.getByRole('menuitem', { name: /greenhouse/ }).click();
  await page.waitForURL(`${mesh.url}/o/${second}`);
  await page.getByRole('heading', { name: 'Add a repository to get started' }).waitFor();
  expect(await row(page, 'a word of welcome').count()).toBe(0);
  await expect.poll(async () => (await auth.getAppShell({})).user?.activeOrganizationId).toBe(second);
  await page.goto(mesh.url);
  await page.waitForURL(`${mesh.url}/o/${second}`);
  await page.getByRole('button', { name: /^Organization greenhouse/ }).click();
  await page.getByRole('menuitem', { name: /alice/ }).click();
  await page.waitForURL(`${mesh.url}/o/${first}`);
  await row(page, 'a word of welcome').waitFor();
  await page.goBack();
  await page.getByRole('button', { name: /^Organization greenhouse/ }).waitFor();
  expect(me.complaints.all).toEqual([]);
});

test('signing out in one tab signs out the other, and both may come back to where they were', async () => {
  me = await newcomer(browser);
  const { page, context } = me;
  await signIn(page, mesh, 'carol');
  const other = await context.newPage();
  const others = new Complaints(other);
  await other.goto(page.url());
  await other.getByRole('heading', { name: 'Add a repository to get started' }).waitFor();
  await page.getByRole('button', { name: 'Account of carol' }).click();
  await page.getByRole('menuitem', { name: 'Sign out' }).click();
  await page.waitForURL(/\/sign-in$/);
  await other.waitForURL(/\/sign-in$/);
  expect(await page.getByText('Your session has ended').count()).toBe(0);
  await context.cookies(mesh.url).then((cookies) => expect(cookies).toEqual([]));
  await signInByForm(other, mesh.secret, 'carol');
  await other.getByRole('heading', { name: 'Add a repository to get started' }).waitFor();
  expect([...me.complaints.all, ...others.all]).toEqual([]);
});

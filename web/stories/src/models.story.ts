/**
 * Models in the browser: providers are added, changed and tested; a profile with MCP servers is made, changed and
 * offered for a task; all are removed.
 */
import { Role } from '@foundry/client/gen/foundry/common/v1/common_pb';
import type { Browser, Locator, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { rests, wrongs } from './axe';
import { Api } from './api';
import { type Complaints, launch, person, signIn } from './browser';
import { Hearing } from './hearing';
import { Mesh } from './mesh';
import { confirm, newcomer } from './page';
import { addRepository } from './workbench';

/** A URL of this machine where nothing listens. */
const NOBODY = 'http://127.0.0.1:9';
const KEY = 'sk-never-to-be-seen-0123456789wxyz';

/** Value of a secret header. */
const SECRET = 'value-never-to-be-seen';

let mesh: Mesh;
let hearing: Hearing;
let browser: Browser;
let page: Page;
/** The page of another admin. */
let other: Page;
let complaints: Complaints;

beforeAll(async () => {
  mesh = await Mesh.start();
  addRepository(mesh, 'alice');
  hearing = await Hearing.start();
  browser = await launch();
  ({ page, complaints } = await newcomer(browser, { reducedMotion: 'reduce' }));
  await signIn(page, mesh, 'alice');
});

afterAll(async () => {
  await browser?.close();
  hearing?.close();
  await mesh?.dispose();
});

function entry(list: string, name: string, of = page): Locator {
  return of.getByRole('list', { name: list }).getByRole('listitem').filter({ hasText: name });
}

async function openDialog(name: string, of = page): Promise<Locator> {
  await of.getByRole('button', { name }).click();
  const dialog = of.getByRole('dialog', { name });
  await dialog.waitFor();
  return dialog;
}

async function send(dialog: Locator, deed: string): Promise<void> {
  await dialog.getByRole('button', { name: deed }).last().click();
  await dialog.waitFor({ state: 'hidden' });
}

/** The fields of a row in a dialog, such as “Header 1”. */
function row(dialog: Locator, name: string): Locator {
  return dialog.getByRole('group', { name, exact: true });
}

/** The headers of the call that a test of a provider makes, once the page reports that it works. */
async function tested(name: string): Promise<Record<string, unknown>> {
  const before = hearing.heard.length;
  await page.getByRole('button', { name: `Test ${name}` }).click();
  await expect.poll(() => hearing.heard.length).toBe(before + 1);
  await entry('Model providers', name).getByText('Works', { exact: true }).waitFor();
  return hearing.heard.at(-1) ?? {};
}

async function choose(dialog: Locator, field: string, option: string): Promise<void> {
  await dialog.getByRole('combobox', { name: field }).click();
  await page.getByRole('option', { name: option, exact: true }).click();
}

test('the menu of the organization leads to the models, of which there are none yet', async () => {
  await page.getByRole('button', { name: /^Organization / }).click();
  await page.getByRole('menuitem', { name: 'Models' }).click();
  await page.waitForURL(/\/o\/org_[0-9a-f]+\/models$/);
  await page.getByRole('heading', { level: 1, name: 'Models' }).waitFor();
  await page.getByText('No model providers yet').waitFor();
  await page.getByText('No agent profiles yet').waitFor();
});

test('a provider is added with its key, of which only the end is seen again', async () => {
  const dialog = await openDialog('Add model provider');
  expect(await dialog.getByLabel('Base URL').inputValue()).toBe('https://api.anthropic.com');
  await dialog.getByLabel('Name').fill('nobody');
  await dialog.getByLabel('Base URL').fill(NOBODY);
  await dialog.getByLabel('Key', { exact: true }).fill(KEY);
  await dialog.getByLabel(/^Models/).fill('model-one, model-two');
  await dialog.getByLabel(/^Models/).press('Enter');
  await dialog.waitFor({ state: 'hidden' });
  const shown = entry('Model providers', 'nobody');
  await shown.getByText('…wxyz').waitFor();
  await shown.getByText('model-one, model-two').waitFor();
  expect(await page.content()).not.toContain(KEY);
});

test('a test of a host that does not answer says so, and what to do', async () => {
  await page.getByRole('button', { name: 'Test nobody' }).click();
  const shown = entry('Model providers', 'nobody');
  await shown.getByText(/The host does not respond/).waitFor();
  await shown.getByText('Host', { exact: true }).waitFor();
  await shown.getByText(/^Check the base URL/).waitFor();
});

test('a change keeps the key unless another one is entered', async () => {
  const shown = entry('Model providers', 'nobody');
  const change = async (fill: (dialog: Locator) => Promise<void>) => {
    const dialog = await openDialog('Change nobody');
    expect(await dialog.getByLabel('New key').inputValue()).toBe('');
    await fill(dialog);
    await dialog.getByRole('button', { name: 'Change model provider' }).click();
    await dialog.waitFor({ state: 'hidden' });
  };
  await change(async (dialog) => await dialog.getByLabel(/^Models/).fill('model-two, model-three'));
  await shown.getByText('model-two, model-three').waitFor();
  await shown.getByText('…wxyz').waitFor();
  await change(async (dialog) => await dialog.getByLabel('New key').fill('sk-another-0123456789-end1'));
  await shown.getByText('…end1').waitFor();
  expect(await page.content()).not.toContain('sk-another');
});

test('headers and prices are added with the keyboard alone, and a secret header is sent and never shown', async () => {
  const dialog = await openDialog('Add model provider');
  await dialog.getByLabel('Name').fill('hearing');
  await dialog.getByLabel('Base URL').fill(hearing.url);
  await dialog.getByLabel('Key', { exact: true }).fill(KEY);
  const keys = async (...pressed: string[]) => {
    for (const key of pressed) await page.keyboard.press(key);
  };
  await dialog.getByText('More: headers (0), prices (0)').press('Enter');
  await dialog.getByRole('button', { name: 'Add header' }).press('Enter');
  await page.keyboard.type('x-key');
  await keys('Tab');
  await page.keyboard.type(SECRET);
  await dialog.getByRole('button', { name: 'Add header' }).press('Enter');
  await page.keyboard.type('x-team');
  // Past the value to the switch that makes it no secret, and back.
  await keys('Tab', 'Tab', 'Space', 'Shift+Tab');
  await page.keyboard.type('blue');
  await dialog.getByRole('button', { name: 'Add price' }).press('Enter');
  for (const text of ['model-one', '3', '15', '0.3']) {
    await page.keyboard.type(text);
    await keys('Tab');
  }
  await row(dialog, 'Price 1').getByLabel('Output').press('Enter');
  await dialog.waitFor({ state: 'hidden' });
  const shown = entry('Model providers', 'hearing');
  await shown.getByText('x-key (secret), x-team: blue', { exact: true }).waitFor();
  await shown.getByText('model-one: $3 in, $15 out, $0.3 cached (per million tokens)', { exact: true }).waitFor();
  expect(await tested('hearing')).toMatchObject({ 'x-key': SECRET, 'x-team': 'blue', 'x-api-key': KEY });
  expect(await page.content()).not.toContain(SECRET);
});

test('a price is changed without the secret header being typed again', async () => {
  const dialog = await openDialog('Change hearing');
  await dialog.getByText('More: headers (2), prices (1)').click();
  expect(await row(dialog, 'Header 1').getByLabel('Value', { exact: true }).inputValue()).toBe('');
  await row(dialog, 'Header 2').getByLabel('Value', { exact: true }).fill('green');
  await row(dialog, 'Price 1').getByLabel('Input', { exact: true }).fill('four');
  await dialog.getByRole('button', { name: 'Change model provider' }).click();
  await dialog.getByText('Enter dollars, for example 3 or 0.25.').waitFor();
  await row(dialog, 'Price 1').getByLabel('Input', { exact: true }).fill('4');
  await send(dialog, 'Change model provider');
  await entry('Model providers', 'hearing')
    .getByText('model-one: $4 in, $15 out, $0.3 cached (per million tokens)', { exact: true })
    .waitFor();
  expect(await tested('hearing')).toMatchObject({ 'x-key': SECRET, 'x-team': 'green' });
});

test('what the service refuses of a header stands at the headers, and nothing that was typed is lost', async () => {
  const dialog = await openDialog('Change hearing');
  await dialog.getByLabel('Base URL').fill(NOBODY);
  await dialog.getByRole('button', { name: 'Change model provider' }).click();
  await dialog
    .getByText(/^Must be given again: the URL points to another server/)
    .first()
    .waitFor();
  await dialog.getByLabel('Base URL').fill(hearing.url);
  await dialog.getByText(/^More/).click();
  await dialog.getByRole('button', { name: 'Add header' }).click();
  await row(dialog, 'Header 3').getByLabel('Name').fill('host');
  await row(dialog, 'Header 3').getByLabel('Value', { exact: true }).fill('elsewhere');
  await dialog.getByRole('button', { name: 'Change model provider' }).click();
  await dialog.getByText(/^Must not set host/).waitFor();
  expect(await row(dialog, 'Header 3').getByLabel('Name').inputValue()).toBe('host');
  await row(dialog, 'Header 3').getByRole('button', { name: 'Remove header 3' }).click();
  expect(await dialog.getByRole('group', { name: 'Headers' }).evaluate((it) => it === document.activeElement)).toBe(true);
  await dialog.getByRole('button', { name: 'Cancel' }).click();
});

test('a conflict with another admin is shown, and the changes of both are kept', async () => {
  const organization = /\/o\/(org_[0-9a-f]+)/.exec(page.url())?.[1] ?? '';
  other = (await person(browser, mesh, 'bob')).page;
  await (await Api.signIn(mesh, 'alice')).auth.setMember({ organizationId: organization, login: 'bob', role: Role.ADMIN });
  await other.goto(page.url());
  const dialog = await openDialog('Change hearing');
  await dialog.getByLabel(/^Models/).fill('model-one, mine');
  await dialog.getByLabel('New key').fill('sk-of-alice-0123456789-mine');
  const theirs = await openDialog('Change hearing', other);
  await theirs.getByLabel('Name').first().fill('heard');
  await theirs.getByLabel(/^Models/).fill('model-one, theirs');
  await send(theirs, 'Change model provider');
  await dialog.getByRole('button', { name: 'Change model provider' }).click();
  const alert = dialog.getByRole('alert');
  await alert.getByText('Someone else saved changes while you were editing.').waitFor();
  await alert.getByText('model-one, theirs').waitFor();
  expect(await dialog.getByLabel('Name').first().inputValue()).toBe('heard');
  expect(await dialog.getByLabel(/^Models/).inputValue()).toBe('model-one, mine');
  await send(dialog, 'Change model provider');
  const shown = entry('Model providers', 'heard');
  for (const fact of ['model-one, mine', '…mine']) await shown.getByText(fact, { exact: true }).waitFor();
  expect(await tested('heard')).toMatchObject({ 'x-key': SECRET, 'x-api-key': 'sk-of-alice-0123456789-mine' });
});

test('a profile is made of an agent, the provider and one of its models', async () => {
  const dialog = await openDialog('Add agent profile');
  await dialog.getByLabel('Name').fill('night');
  await choose(dialog, 'Agent', 'Claude Code');
  expect(await dialog.getByRole('combobox', { name: 'Model provider' }).inputValue()).toBe('heard');
  await choose(dialog, 'Model provider', 'nobody');
  await choose(dialog, 'Model (optional)', 'model-two');
  await dialog.getByText('Allow all').click();
  await dialog.getByLabel('Default for the organization').check();
  await dialog.getByRole('button', { name: 'Add agent profile' }).click();
  await dialog.waitFor({ state: 'hidden' });
  const shown = entry('Agent profiles', 'night');
  for (const fact of ['default', 'claude', 'nobody', 'model-two', 'allow all']) await shown.getByText(fact, { exact: true }).waitFor();
});

test('a profile is changed, and a secret variable of it stays without being typed again', async () => {
  const shown = entry('Agent profiles', 'night');
  const add = await openDialog('Change night');
  await add.getByLabel('Effort (optional)').fill('high');
  await add.getByText('More: environment (0), MCP servers (0)').click();
  await add.getByRole('button', { name: 'Add variable' }).click();
  await row(add, 'Variable 1').getByLabel('Name').fill('TOKEN');
  await row(add, 'Variable 1').getByLabel('Value', { exact: true }).fill(SECRET);
  await send(add, 'Change agent profile');
  for (const fact of ['high', 'TOKEN (secret)', 'TOKEN']) await shown.getByText(fact, { exact: true }).waitFor();
  const change = await openDialog('Change night');
  expect(await change.getByRole('combobox', { name: 'Agent' }).inputValue()).toBe('Claude Code');
  expect(await change.getByRole('combobox', { name: 'Model provider' }).inputValue()).toBe('nobody');
  await choose(change, 'Model (optional)', 'model-three');
  await change.getByText(/^More/).click();
  await change.getByRole('button', { name: 'Add variable' }).click();
  await row(change, 'Variable 2').getByLabel('Name').fill('CI');
  await row(change, 'Variable 2').getByLabel('Secret').uncheck();
  await row(change, 'Variable 2').getByLabel('Value', { exact: true }).fill('yes');
  await send(change, 'Change agent profile');
  for (const fact of ['model-three', 'TOKEN (secret), CI: yes', 'allow all', 'default'])
    await shown.getByText(fact, { exact: true }).waitFor();
  expect(await page.content()).not.toContain(SECRET);
});

test('a conflict over a profile is shown', async () => {
  await other.reload();
  const dialog = await openDialog('Change night');
  await dialog.getByLabel('Mode (optional)').fill('mine');
  const theirs = await openDialog('Change night', other);
  await theirs.getByLabel('Mode (optional)').fill('theirs');
  await theirs.getByLabel('Effort (optional)').fill('low');
  await send(theirs, 'Change agent profile');
  await dialog.getByRole('button', { name: 'Change agent profile' }).click();
  const alert = dialog.getByRole('alert');
  await alert.getByText('theirs', { exact: true }).waitFor();
  await other.context().close();
  expect(await dialog.getByLabel('Effort (optional)').inputValue()).toBe('low');
  for (const colorScheme of ['dark', 'light'] as const) {
    await page.emulateMedia({ colorScheme });
    await rests(page, colorScheme);
    expect(await wrongs(page, false)).toEqual([]);
  }
  await send(dialog, 'Change agent profile');
  for (const fact of ['mine', 'low', 'TOKEN (secret), CI: yes'])
    await entry('Agent profiles', 'night').getByText(fact, { exact: true }).waitFor();
});

test('MCP servers over HTTP and as a command are added, seen again, changed and removed, and their secrets never shown', async () => {
  const shown = entry('Agent profiles', 'night');
  const seen = async (text: string) => await shown.getByText(text, { exact: true }).waitFor();
  const add = await openDialog('Change night');
  await add.getByText('More: environment (2), MCP servers (0)').click();
  await add.getByText('No MCP servers yet.').waitFor();
  await add.getByRole('button', { name: 'Add MCP server' }).click();
  // The new row has the focus.
  await page.keyboard.type('web');
  const web = row(add, 'MCP server 1');
  expect(await web.getByLabel('Name', { exact: true }).inputValue()).toBe('web');
  await web.getByLabel('URL', { exact: true }).fill('https://mcp.example/tools');
  await web.getByRole('button', { name: 'Add header' }).click();
  await row(web, 'Header 1').getByLabel('Name').fill('authorization');
  await row(web, 'Header 1').getByLabel('Value', { exact: true }).fill(SECRET);
  await web.getByText(/stay outside the sandbox/).waitFor();
  await add.getByRole('button', { name: 'Add MCP server' }).click();
  const files = row(add, 'MCP server 2');
  await files.getByLabel('Name', { exact: true }).fill('files');
  await choose(files, 'Kind', 'Local command');
  await files.getByLabel('Command', { exact: true }).fill('npx');
  await files.getByLabel('Arguments (optional)').fill('-y\nfiles-mcp');
  await files.getByRole('button', { name: 'Add server variable' }).click();
  await row(files, 'Server variable 1').getByLabel('Name').fill('FILES_TOKEN');
  await row(files, 'Server variable 1').getByLabel('Value', { exact: true }).fill(SECRET);
  await files.getByText(/passed into the sandbox, where the agent can read them/).waitFor();
  for (const colorScheme of ['dark', 'light'] as const) {
    await page.emulateMedia({ colorScheme });
    await rests(page, colorScheme);
    expect(await wrongs(page, false)).toEqual([]);
  }
  await send(add, 'Change agent profile');
  await seen('web: https://mcp.example/tools, with authorization (secret); files: npx -y files-mcp, with FILES_TOKEN (secret)');
  await page.reload();
  await seen('TOKEN, files/FILES_TOKEN');
  const change = await openDialog('Change night');
  await change.getByText('More: environment (2), MCP servers (2)').click();
  const url = row(change, 'MCP server 1').getByLabel('URL', { exact: true });
  const header = row(row(change, 'MCP server 1'), 'Header 1');
  expect(await url.inputValue()).toBe('https://mcp.example/tools');
  expect(await header.getByLabel('Value', { exact: true }).inputValue()).toBe('');
  expect(await row(change, 'MCP server 2').getByLabel('Arguments (optional)').inputValue()).toBe('-y\nfiles-mcp');
  await url.fill('https://elsewhere.example/tools');
  await change.getByRole('button', { name: 'Change agent profile' }).click();
  await header.getByText('The value is required.').waitFor();
  await url.fill('https://mcp.example/other');
  await row(change, 'MCP server 1').getByRole('button', { name: 'Add header' }).click();
  await row(change, 'Header 2').getByLabel('Name').fill('host');
  await row(change, 'Header 2').getByLabel('Secret').uncheck();
  await change.getByRole('button', { name: 'Change agent profile' }).click();
  await row(change, 'MCP servers')
    .getByText(/^Must not set host/)
    .waitFor();
  expect(await url.inputValue()).toBe('https://mcp.example/other');
  await row(change, 'Header 2').getByLabel('Name').fill('x-team');
  await row(change, 'Header 2').getByLabel('Value', { exact: true }).fill('blue');
  await change.getByRole('button', { name: 'Remove MCP server 2' }).click();
  await send(change, 'Change agent profile');
  await seen('web: https://mcp.example/other, with authorization (secret), x-team: blue');
  await seen('TOKEN');
  expect(await page.content()).not.toContain(SECRET);
});

test.each(['light', 'dark'] as const)('axe finds nothing in the page when it is %s', async (colorScheme) => {
  await page.emulateMedia({ colorScheme });
  await rests(page, colorScheme);
  expect(await wrongs(page, false)).toEqual([]);
});

test('the profile is offered for a new task, chosen already as the default', async () => {
  await page.getByRole('heading', { level: 1 }).click(); // to leave any field
  await page.keyboard.press('c');
  const dialog = page.getByRole('dialog', { name: 'New task' });
  const field = dialog.getByRole('combobox', { name: 'Agent or profile' });
  await expect.poll(async () => await field.inputValue()).toBe('night (claude, model-three)');
  expect(await dialog.getByRole('radio', { name: 'Allow all' }).isChecked()).toBe(true);
  await choose(dialog, 'Agent or profile', 'Demo agent');
  expect(await dialog.getByRole('radio', { name: 'Ask a person' }).isChecked()).toBe(true);
  await choose(dialog, 'Agent or profile', 'night (claude, model-three)');
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  await dialog.waitFor({ state: 'hidden' });
});

test('the provider stays as long as the profile uses it; then both go', async () => {
  await page.getByRole('button', { name: 'Remove nobody' }).click();
  const dialog = page.getByRole('dialog', { name: 'Remove nobody?' });
  await dialog.getByRole('button', { name: 'Remove model provider' }).click();
  await dialog.getByText('MODEL_PROVIDER_IN_USE', { exact: true }).waitFor();
  await dialog
    .getByText(/is used by these agent profiles: night/)
    .first()
    .waitFor();
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  await page.getByRole('button', { name: 'Remove night' }).click();
  await confirm(page, 'Remove night?', 'Remove agent profile');
  await page.getByText('No agent profiles yet').waitFor();
  await page.getByRole('button', { name: 'Remove nobody' }).click();
  await confirm(page, 'Remove nobody?', 'Remove model provider');
  await page.getByRole('button', { name: 'Remove heard' }).click();
  await confirm(page, 'Remove heard?', 'Remove model provider');
  await page.getByText('No model providers yet').waitFor();
  expect(complaints.all).toEqual([]);
});

/** The pages and states that are checked for accessibility, and the tasks that show them. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SessionState, TaskState } from '@foundry/client/gen/foundry/task/v1/task_pb';
import type { Page } from 'playwright-core';
import { Api } from './api';
import type { Mesh } from './mesh';
import { makeOrigin } from '@foundry/testing';
import { Faults, type Made, Maker } from './screenshots/made';
import { transcript } from './workbench';

class Steered extends Faults {
  constructor(private readonly parent: string) {
    super(parent);
  }

  /** Removes the directory of the files. */
  remove(): void {
    rmSync(this.parent, { recursive: true, force: true });
  }
}

/** Controls the provider of the tasks that never get as far as an agent. */
export const STEERED = new Steered(mkdtempSync(join(tmpdir(), 'foundry-axe-')));

const PROMPTS = {
  idle: 'plan: read; change; sum up\nthink about the greeting\nread README.md\nreplace Hello with Good day in src/greeting.txt\nwrite src/season.ts: export const season = 1;\ndelete logo.bin\nrun ls\nsay ## Found\nsay The [guide](https://example.org/guide) and `code` and **words**.\nemit hostile text',
  failing: 'read missing.md\nfail with the model is overloaded',
  running: 'run ls\nsay I am at it\nwait 60 minutes',
  asking: 'ask before running `ls src`',
} as const;

/** The organization that is checked. */
export interface Everything {
  readonly organizationId: string;
  /** An organization without anything in it. */
  readonly empty: string;
  readonly repositoryId: string;
  readonly tasks: Readonly<Record<keyof typeof PROMPTS | 'provisioning' | 'failed', Made>>;
}

/** Makes the organization. */
export async function furnished(mesh: Mesh): Promise<Everything> {
  const api = await Api.signIn(mesh, 'alice');
  const empty = (await api.auth.createOrganization({ name: 'nothing-here' })).organization?.organizationId ?? '';
  const maker = new Maker(api);
  const repositoryId = await maker.repository(makeOrigin(mesh.dir, 'orchard'), 'orchard');
  const idle = await maker.task(repositoryId, PROMPTS.idle, { title: 'Change the greeting' });
  const failing = await maker.task(repositoryId, PROMPTS.failing, { title: 'Read what is missing' });
  const running = await maker.task(repositoryId, PROMPTS.running, { title: 'Look around' });
  const asking = await maker.task(repositoryId, PROMPTS.asking, { title: 'Ask first', asks: true });
  STEERED.hang('install_agent');
  const provisioning = await maker.task(repositoryId, 'Never begins', { title: 'Wait for the agent', provider: 'fault' });
  const failed = await maker.task(repositoryId, 'Has no credentials', { title: 'Fail early', agent: 'claude' });
  await maker.when(idle, 'changes', (task, session) => session.state === SessionState.IDLE && (task.changes?.filesChanged ?? 0) > 2);
  await maker.when(failing, 'a failed turn', (_, session) => session.state === SessionState.IDLE);
  await maker.when(running, 'running', (_, session) => session.state === SessionState.RUNNING);
  await maker.say(running, 'say this waits');
  await maker.when(asking, 'a question', (_, session) => session.pendingPermission !== undefined);
  await maker.when(provisioning, 'installing', (task) => task.stages.some((it) => it.name === 'agent_installing' && it.attempts > 0));
  await maker.when(failed, 'failed', (task) => task.state === TaskState.ERROR);
  return { organizationId: api.organizationId, empty, repositoryId, tasks: { idle, failing, running, asking, provisioning, failed } };
}

/** A page in a state. */
export interface State {
  readonly name: string;
  readonly path: () => string;
  /** Brings the page into the state and waits until it shows. */
  readonly ready: (page: Page) => Promise<void>;
  /** Shown without a session. */
  readonly nobody?: boolean;
}

async function dialog(page: Page): Promise<void> {
  await page.getByRole('dialog').waitFor();
}

async function heading(page: Page): Promise<void> {
  await page.getByRole('main').getByRole('heading', { level: 1 }).first().waitFor();
}

/** States outside of a task. */
function around(all: () => Everything): State[] {
  const home = (): string => `/o/${all().organizationId}`;
  const over = (name: string, open: (page: Page) => Promise<void>): State => ({
    name,
    path: home,
    ready: async (page) => {
      await heading(page);
      await open(page);
    },
  });
  const keys =
    (...pressed: string[]) =>
    async (page: Page): Promise<void> => {
      // Keys that are pressed too far apart are no sequence, and a delayed story cannot notice that, so they are
      // repeated.
      for (let again = 5; again > 0; again -= 1) {
        for (const key of pressed) await page.keyboard.press(key);
        const shown = page.getByRole('dialog').waitFor({ timeout: 5_000 });
        if (await shown.then(() => true).catch(() => false)) return;
      }
      await dialog(page);
    };
  const signIn = { path: () => '/sign-in', nobody: true };
  return [
    { ...signIn, name: 'sign-in', ready: async (page) => await page.getByRole('button', { name: 'Sign in' }).waitFor() },
    {
      ...signIn,
      name: 'sign-in with what is missing',
      ready: async (page) => {
        await page.getByRole('button', { name: 'Sign in' }).click();
        await page.getByText('The secret is required.').waitFor();
      },
    },
    {
      name: 'an empty organization',
      path: () => `/o/${all().empty}`,
      ready: async (page) => await page.getByRole('button', { name: 'Add repository' }).last().waitFor(),
    },
    { name: 'a new task without repositories', path: () => `/o/${all().empty}/new`, ready: dialog },
    { name: 'the start of an organization', path: home, ready: heading },
    { name: 'the dialog for a new task', path: () => `${home()}/new`, ready: dialog },
    {
      name: 'a repository',
      path: () => `${home()}/r/${all().repositoryId}`,
      ready: async (page) => await page.getByRole('main').getByText('harvest').first().waitFor(),
    },
    { name: 'the models', path: () => `${home()}/models`, ready: async (page) => await page.getByText('No agent profiles yet').waitFor() },
    {
      name: 'the access tokens',
      path: () => `${home()}/tokens`,
      ready: async (page) => await page.getByText('No access tokens', { exact: true }).waitFor(),
    },
    {
      name: 'the devices and sessions',
      path: () => `${home()}/sessions`,
      ready: async (page) => await page.getByText('This browser', { exact: true }).waitFor(),
    },
    {
      name: 'the code of a program, missing',
      path: () => '/device',
      ready: async (page) => {
        await page.getByRole('button', { name: 'Continue' }).click();
        await page.getByText('The code is required.').waitFor();
      },
    },
    ...['Add model provider', 'Add agent profile'].map((name) => ({
      name: `the dialog “${name}”`,
      path: () => `${home()}/models`,
      ready: async (page: Page) => {
        await page.getByRole('button', { name }).click();
        await dialog(page);
      },
    })),
    ...[
      { name: 'Add model provider', adds: ['Add header', 'Add price'] },
      { name: 'Add agent profile', adds: ['Add variable', 'Add MCP server', 'Add header'] },
    ].map(({ name, adds }) => ({
      name: `the dialog “${name}” with what is folded away, and what is missing`,
      path: () => `${home()}/models`,
      ready: async (page: Page) => {
        await page.getByRole('button', { name }).click();
        await dialog(page);
        await page.getByText(/^More/).click();
        for (const add of adds) await page.getByRole('button', { name: add, exact: true }).click();
        await page.getByRole('dialog').getByRole('button', { name, exact: true }).click();
        await page.getByText('The value is required.').first().waitFor();
      },
    })),
    { name: 'no such page', path: () => '/nowhere', ready: async (page) => await page.getByRole('heading').first().waitFor() },
    { name: 'no such page of an organization', path: () => `${home()}/nowhere`, ready: heading },
    { name: 'no such task', path: () => `${home()}/t/task_${'0'.repeat(32)}`, ready: heading },
    over('the shortcuts', keys('?')),
    over('the event log', keys('g', 'e')),
    over('the filter without a hit', async (page) => {
      const menu = page.getByRole('button', { name: 'Open the list of tasks' });
      if (await menu.isVisible()) await menu.click();
      await page.getByRole('searchbox', { name: 'Filter tasks' }).fill('nothing of the kind');
      await page.getByText('No tasks match the filter').waitFor();
    }),
  ];
}

/** A task in its states, and its panels. */
function ofTasks(all: () => Everything): State[] {
  const at = (task: keyof Everything['tasks'], panel: string) => () =>
    `/o/${all().organizationId}/t/${all().tasks[task].taskId}?panel=${panel}`;
  const says =
    (text: string | RegExp) =>
    async (page: Page): Promise<void> =>
      await transcript(page).getByText(text).last().waitFor();
  return [
    {
      name: 'a task that is provisioned',
      path: at('provisioning', 'none'),
      ready: async (page) => await page.getByText('Install agent').first().waitFor(),
    },
    {
      name: 'a task that failed',
      path: at('failed', 'none'),
      ready: async (page) => await page.getByRole('button', { name: 'Retry' }).first().waitFor(),
    },
    { name: 'a task that runs', path: at('running', 'none'), ready: says('I am at it') },
    {
      name: 'a task that asks',
      path: at('asking', 'none'),
      ready: async (page) => await page.getByRole('region', { name: 'The agent is asking for permission' }).waitFor(),
    },
    { name: 'a task that rests', path: at('idle', 'none'), ready: says(/etc\/passwd/) },
    { name: 'a turn that failed', path: at('failing', 'none'), ready: says(/overloaded/) },
    {
      name: 'the changes',
      path: at('idle', 'changes'),
      ready: async (page) => {
        const files = page.getByRole('list', { name: 'Changed files' });
        await files.waitFor();
        for (const closed = files.getByRole('button', { expanded: false }); (await closed.count()) > 0; ) await closed.first().click();
        await files.getByRole('table').first().waitFor();
      },
    },
    { name: 'the files', path: at('idle', 'files'), ready: async (page) => await page.getByRole('treeitem').first().waitFor() },
    {
      name: 'a file',
      path: at('idle', 'files'),
      ready: async (page) => {
        await page.getByRole('treeitem').filter({ hasText: 'README.md' }).click();
        await page.getByRole('region', { name: 'Content' }).waitFor();
      },
    },
    {
      name: 'the processes',
      path: at('running', 'processes'),
      ready: async (page) =>
        await page
          .getByText(/demo-agent/)
          .first()
          .waitFor(),
    },
    {
      name: 'the activity',
      path: at('idle', 'activity'),
      ready: async (page) =>
        await page
          .getByText(/create/i)
          .last()
          .waitFor(),
    },
    {
      name: 'the explanation',
      path: at('asking', 'explain'),
      ready: async (page) =>
        await page
          .getByText(/permission/i)
          .last()
          .waitFor(),
    },
    {
      name: 'the explanation of a failure',
      path: at('failed', 'explain'),
      ready: async (page) => await page.getByText('AGENT_MODEL_MISSING').last().waitFor(),
    },
    {
      name: 'the actions of a task',
      path: at('idle', 'none'),
      ready: async (page) => {
        await page.getByRole('button', { name: 'More actions' }).click();
        await page.getByRole('menuitem').first().waitFor();
      },
    },
  ];
}

/** All states. */
export function states(all: () => Everything): State[] {
  return [...around(all), ...ofTasks(all)];
}

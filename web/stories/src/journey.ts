/**
 * The way from a private repository to an open pull request with green checks, for any agent; the credential and what the
 * agent needs are nowhere they should not be.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser, Locator, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { rests, wrongs } from './axe';
import { launch, signIn } from './browser';
import { filesWith, partsWith, processesWith } from './canary';
import { addHook, deliver, type Hook } from './deliveries';
import { Forge } from './forge';
import { Mesh } from './mesh';
import { act, createByKeyboard, isState, type Newcomer, newcomer, panel } from './page';
import { said } from './workbench';

/** The credential of the repository. Looks different in a URL, in JSON and in base64. */
export const TOKEN = 'canary+token/0123456789%wxyz';
const NAME = 'team/app';
/** How long a change at the host may take to be seen by polling: a poll each 5 s, and room for a busy machine. */
const POLLED_MS = 60_000;
/** What the agent says at the end. */
const DONE = 'the work is done';

/** The agent that works on the task of a journey. */
export interface Agent {
  /** Settings of its mesh. */
  readonly settings: readonly string[];
  /** Makes it the agent of the next task, by means of the page; without it, it is that already. */
  readonly choose?: (page: Page) => Promise<void>;
  /** The prompt that makes it take these steps, one on each line. */
  readonly prompt: (steps: string) => string;
  /** In the arguments or the environment of its process. */
  readonly mark: string;
  /** Its own secrets. */
  readonly secrets: readonly string[];
  /** How long it may take to have begun and ended its work. */
  readonly patience: number;
}

/** One such way, step by step. */
class Journey {
  private forge!: Forge;
  private mesh!: Mesh;
  private browser!: Browser;
  private me!: Newcomer;
  private page!: Page;
  private repository = '';
  private task = '';
  private hook!: Hook;

  constructor(private readonly agent: Agent) {}

  async begin(): Promise<void> {
    this.forge = await Forge.start();
    this.forge.repository(NAME);
    await this.forge.require(TOKEN);
    // On a busy machine, deliveries are stored later than hosts wait.
    const settings = ['repo.poll_active=5s', 'gateway.webhook_answer=10s'];
    this.mesh = await Mesh.start([...this.forge.settings, ...this.agent.settings, ...settings]);
    this.mesh.cli('login', '--login', 'alice');
    this.browser = await launch();
    this.me = await newcomer(this.browser, { reducedMotion: 'reduce' });
    this.page = this.me.page;
    await signIn(this.page, this.mesh, 'alice');
  }

  async end(): Promise<void> {
    await this.browser?.close();
    await this.mesh?.dispose();
    await this.forge?.close();
  }

  /** What the task that is shown says about its pull request. */
  private async pullRequest(): Promise<Locator> {
    const changes = await panel(this.page, 'Changes');
    return changes.getByRole('listitem').filter({ hasText: 'Pull request #1' });
  }

  async adds(): Promise<void> {
    await this.page.getByRole('main').getByRole('button', { name: 'Add repository' }).click();
    const dialog = this.page.getByRole('dialog', { name: 'Add repository' });
    await dialog.getByLabel('URL').fill(this.forge.url(NAME));
    await dialog.getByRole('button', { name: 'Add repository' }).click();
    await this.page.getByRole('main').getByText('Needs a credential').first().waitFor();
    const credential = this.page.getByRole('region', { name: 'Credential' });
    await credential.getByLabel('Token or password').fill(TOKEN);
    await credential.getByRole('button', { name: 'Store credential' }).click();
    await this.page.getByRole('main').getByText('Ready', { exact: true }).waitFor();
    this.repository = this.page.url();
    this.hook = await addHook(this.page);
    expect(await partsWith(this.page, this.hook.secret)).toEqual([]);
  }

  async works(): Promise<void> {
    if (this.agent.choose !== undefined) {
      await this.agent.choose(this.page);
      await this.page.goto(this.repository);
    }
    await createByKeyboard(this.page, this.agent.prompt(`write docs/guide.md: Pick the ripe ones.\nrun env; cat .git/config\nsay ${DONE}`));
    this.task = this.page.url();
    await said(this.page).filter({ hasText: DONE }).waitFor({ timeout: this.agent.patience });
    await isState(this.page, 'Idle');
  }

  async publishes(): Promise<void> {
    await act(this.page, 'Publish pull request…');
    const dialog = this.page.getByRole('dialog', { name: 'Publish pull request' });
    await dialog.getByRole('textbox', { name: 'Branch', exact: true }).fill('feat/guide');
    await dialog.getByRole('textbox', { name: 'Commit message' }).fill('Write the guide');
    await dialog.getByRole('button', { name: 'Publish', exact: true }).click();
    await dialog.getByRole('region', { name: 'Publication' }).getByRole('link', { name: 'Pull request #1' }).waitFor();
    expect(await this.forge.pulls(NAME)).toEqual([[1, 'Write the guide']]);
    expect(this.forge.file(NAME, 'feat/guide', 'docs/guide.md')).toBe('Pick the ripe ones.');
    await this.page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'hidden' });
  }

  async followsChecks(): Promise<void> {
    const shown = await this.pullRequest();
    await this.forge.check(NAME, 'feat/guide', 'unit tests', 'pending');
    await shown.getByText('1 of 1 checks pending').waitFor({ timeout: POLLED_MS }); // by polling

    await this.forge.check(NAME, 'feat/guide', 'unit tests', 'failed');
    expect(await deliver(this.hook, 'check_run', NAME)).toBe(200);
    await shown.getByText('1 of 1 checks failed').waitFor({ timeout: 8_000 });

    await this.forge.check(NAME, 'feat/guide', 'unit tests', 'passed');
    expect(await deliver(this.hook, 'check_run', NAME)).toBe(200);
    await shown.getByText('checks passed').waitFor({ timeout: 8_000 });

    await this.forge.review(NAME, 1, 'bob', 'APPROVED');
    await shown.getByText('open, checks passed, approved').waitFor({ timeout: POLLED_MS }); // by polling
    await rests(this.page, 'light');
    expect(await wrongs(this.page, false)).toEqual([]);
  }

  async looksAtOverview(): Promise<void> {
    await this.page.goto(this.repository);
    const row = this.page.getByRole('row').filter({ hasText: 'feat/guide' });
    await row.getByText('open, checks passed, approved').waitFor();
    const facts = this.page.getByRole('main');
    await facts.getByText(/^1 open, as of .*, by polling/).waitFor();
    await facts.getByText(/^\d+ of 5000/).waitFor();
    expect(await deliver(this.hook, 'pull_request', NAME)).toBe(200);
    await facts.getByText(/^1 open, as of .*, by a webhook/).waitFor();
    expect(await partsWith(this.page, TOKEN)).toEqual([]);
    await this.page.goto(this.task);
  }

  async findsNoSecret(): Promise<void> {
    await said(this.page).filter({ hasText: DONE }).waitFor();
    // What is searched for would be found.
    const planted = join(this.mesh.dir, 'planted');
    for (const written of [`url=http://x:${encodeURIComponent(TOKEN)}@host`, Buffer.from(`x-access-token:${TOKEN}`).toString('base64')]) {
      writeFileSync(planted, written);
      expect(filesWith(this.mesh.dir, TOKEN)).toEqual([planted]);
    }
    rmSync(planted);
    expect(processesWith(this.mesh.dir, this.agent.mark).bad).not.toEqual([]);
    expect(await partsWith(this.page, DONE)).toEqual(['document', 'text']);
    for (const secret of [TOKEN, ...this.agent.secrets]) {
      expect(filesWith(this.mesh.dir, secret)).toEqual([]); // databases, log, mirror, sandbox
      const { looked, bad } = processesWith(this.mesh.dir, secret);
      expect(looked).toBeGreaterThan(1); // the mesh, and the sandbox with its agent
      expect(bad).toEqual([]);
      expect(await partsWith(this.page, secret)).toEqual([]);
    }
    expect(this.me.complaints.all).toEqual([]);
  }
}

/** The tests of a journey; each goes on where the one before has ended. */
export function journey(agent: Agent): void {
  const way = new Journey(agent);
  beforeAll(() => way.begin());
  afterAll(() => way.end());
  test('a private repository is added with a credential and a webhook', () => way.adds());
  test('a task works on it', { timeout: agent.patience + 60_000 }, () => way.works());
  test('its work becomes a pull request', () => way.publishes());
  test('its checks go from pending to green, and a review arrives, without a reload', () => way.followsChecks());
  test('the overview of the repository shows it, and how it was read', () => way.looksAtOverview());
  test('no secret is in a file, a process or a part of the page', () => way.findsNoSecret());
}

/** Sign-in at GitHub's stand-in and at an independent OpenID Connect provider, in a real browser. */
import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { freePort, RunningMesh } from '@foundry/testing';
import { Provider } from 'oidc-provider';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { launch } from './browser';

const CLIENT = { id: 'foundry', secret: 'canary-client-secret-0123456789abcdef' };

/** A mesh whose page is at a known address, as providers need it. */
class SignInMesh extends RunningMesh {
  static async at(port: number, settings: readonly string[]): Promise<SignInMesh> {
    const env = { CLIENT_SECRET: CLIENT.secret };
    const mesh = new SignInMesh({ settings: [...settings, `gateway.public_url=http://127.0.0.1:${port}`], env });
    mesh.ports = [port, ...(await Promise.all(Array.from({ length: 5 }, freePort)))];
    await mesh.startAgain();
    return mesh;
  }

  get setUpSecret(): string {
    return readFileSync(join(this.data, 'auth/set-up.secret'), 'utf8').trim();
  }

  async dispose(): Promise<void> {
    await this.stop();
    await this.remove();
  }
}

interface Account {
  id: number;
  login: string;
  organizations: readonly string[];
}

/** GitHub's sign-in: enforces client, redirect, PKCE, codes that count once, and scopes. */
class GitHub {
  account: Account = { id: 1, login: 'boss', organizations: [] };
  private readonly codes = new Map<string, { challenge: string; scope: string; account: Account }>();
  private readonly tokens = new Map<string, { scope: string; account: Account }>();
  private server: Server | undefined;

  constructor(private readonly redirect: string) {}

  async listen(): Promise<string> {
    const server = createServer((request, response) => void this.answer(request, response));
    this.server = server;
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.server?.close();
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://127.0.0.1');
    const sent = url.searchParams;
    const json = (status: number, body: unknown) =>
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    if (url.pathname === '/login/oauth/authorize') {
      const good =
        sent.get('client_id') === CLIENT.id && sent.get('redirect_uri') === this.redirect && sent.get('code_challenge_method') === 'S256';
      if (!good || (sent.get('state')?.length ?? 0) < 32) return void json(400, { message: 'refused' });
      const code = randomUUID();
      this.codes.set(code, { challenge: sent.get('code_challenge') ?? '', scope: sent.get('scope') ?? '', account: this.account });
      const back = `${this.redirect}?code=${code}&state=${encodeURIComponent(sent.get('state') ?? '')}`;
      response
        .writeHead(200, { 'content-type': 'text/html' })
        .end(`<!doctype html><title>GitHub</title><a href="${back.replaceAll('&', '&amp;')}">Authorize</a>`);
      return;
    }
    if (url.pathname === '/login/oauth/access_token') {
      let text = '';
      for await (const chunk of request) text += String(chunk);
      const form = new URLSearchParams(text);
      const grant = this.codes.get(form.get('code') ?? '');
      this.codes.delete(form.get('code') ?? '');
      const challenge = createHash('sha256')
        .update(form.get('code_verifier') ?? '')
        .digest('base64url');
      const good =
        form.get('client_secret') === CLIENT.secret && form.get('redirect_uri') === this.redirect && grant?.challenge === challenge;
      if (grant === undefined || !good) return void json(200, { error: 'bad_verification_code' });
      const token = randomUUID();
      this.tokens.set(token, grant);
      return void json(200, { access_token: token, token_type: 'bearer', scope: grant.scope.replaceAll(' ', ',') });
    }
    const grant = this.tokens.get((request.headers.authorization ?? '').replace('Bearer ', ''));
    if (grant === undefined) return void json(401, { message: 'Bad credentials' });
    const { account, scope } = grant;
    if (url.pathname === '/api/v3/user') return void json(200, { id: account.id, login: account.login, name: null, avatar_url: '' });
    if (url.pathname === '/api/v3/user/emails')
      return void json(200, [{ email: `${account.login}@corp.example`, primary: true, verified: true }]);
    const organization = url.pathname.replace('/api/v3/user/memberships/orgs/', '');
    if (scope.split(' ').includes('read:org') && account.organizations.includes(organization)) return void json(200, { state: 'active' });
    json(404, { message: 'Not Found' });
  }
}

let mesh: SignInMesh;
let browser: Browser;
let github: GitHub;
let openid: Server;

beforeAll(async () => {
  const port = await freePort();
  const back = (name: string) => `http://127.0.0.1:${port}/auth/callback/${name}`;
  github = new GitHub(back('github'));
  const host = await github.listen();
  const issuerPort = await freePort();
  const issuer = `http://127.0.0.1:${issuerPort}`;
  const provider = new Provider(issuer, {
    clients: [{ client_id: CLIENT.id, client_secret: CLIENT.secret, redirect_uris: [back('corp')] }],
    claims: { email: ['email', 'email_verified'], profile: ['name', 'preferred_username'] },
    findAccount: (_: unknown, id: string) => ({
      accountId: id,
      claims: () => ({ sub: id, email: `${id}@corp.example`, email_verified: true, preferred_username: id, name: id }),
    }),
  });
  openid = await new Promise((resolve) => {
    const server = provider.listen(issuerPort, '127.0.0.1', () => resolve(server));
  });
  mesh = await SignInMesh.at(port, [
    `auth.sign_in.github.host=${host}`,
    `auth.sign_in.github.client_id=${CLIENT.id}`,
    'auth.sign_in.github.client_secret=env:CLIENT_SECRET',
    'auth.sign_in.github.allow_organizations=["acme"]',
    `auth.sign_in.corp.issuer=${issuer}`,
    'auth.sign_in.corp.title=Corp',
    `auth.sign_in.corp.client_id=${CLIENT.id}`,
    'auth.sign_in.corp.client_secret=env:CLIENT_SECRET',
    'auth.sign_in.corp.allow_email_domains=["corp.example"]',
  ]);
  browser = await launch();
});

afterAll(async () => {
  await browser?.close();
  github?.close();
  openid?.close();
  await mesh?.dispose();
});

async function fresh(): Promise<{ context: BrowserContext; page: Page }> {
  const context = await browser.newContext();
  return { context, page: await context.newPage() };
}

/** Goes through GitHub as an account that is signed in there. */
async function throughGitHub(page: Page, account: Account, button: string): Promise<void> {
  github.account = account;
  await page.getByRole('button', { name: button }).click();
  await page.getByRole('link', { name: 'Authorize' }).click();
}

test('the first owner sets up, a stranger gets nothing, and a member of the organization comes in', async () => {
  const stranger = await fresh();
  await stranger.page.goto(`${mesh.url}/sign-in`);
  await stranger.page.getByLabel('Set-up secret', { exact: true }).fill('a guess');
  await stranger.page.getByLabel('Organization').fill('mine');
  await stranger.page.getByRole('button', { name: 'Set up with GitHub' }).click();
  await stranger.page.getByText('SET_UP_SECRET_WRONG', { exact: true }).waitFor();

  const owner = await fresh();
  await owner.page.goto(`${mesh.url}/sign-in`);
  await owner.page.getByLabel('Set-up secret', { exact: true }).fill(mesh.setUpSecret);
  await owner.page.getByLabel('Organization').fill('acme');
  await throughGitHub(owner.page, { id: 1, login: 'boss', organizations: [] }, 'Set up with GitHub');
  await owner.page.waitForURL(/\/o\/org_/);
  const cookies = await owner.context.cookies();
  expect(cookies.map((cookie) => [cookie.name.replace(/\d+$/, ''), cookie.httpOnly, cookie.sameSite])).toEqual([
    ['foundry_session_', true, 'Strict'],
  ]);

  await stranger.page.reload();
  await throughGitHub(stranger.page, { id: 2, login: 'mallory', organizations: [] }, 'Continue with GitHub');
  await stranger.page.getByText('NOT_ADMITTED', { exact: true }).waitFor();
  expect(await stranger.context.cookies()).toEqual([]);

  await throughGitHub(stranger.page, { id: 3, login: 'ada', organizations: ['acme'] }, 'Continue with GitHub');
  await stranger.page.waitForURL(/\/o\/org_/);
});

test('who wanted to see something sees it after signing in at an independent provider', async () => {
  const { page } = await fresh();
  await page.goto(`${mesh.url}/o/org_00000000000000000000000000000000`);
  await page.waitForURL(/\/sign-in$/);
  await page.getByRole('button', { name: 'Continue with Corp' }).click();
  await page.locator('[name=login]').fill('grace');
  await page.locator('[name=password]').fill('any');
  await page.locator('[type=submit]').click();
  await page.locator('[type=submit]').click();
  await page.waitForURL(/org_00000000000000000000000000000000$/);
});

test('a way back that was made elsewhere opens nothing here', async () => {
  const attacker = await fresh();
  await attacker.page.goto(`${mesh.url}/sign-in`);
  github.account = { id: 3, login: 'ada', organizations: ['acme'] };
  await attacker.page.getByRole('button', { name: 'Continue with GitHub' }).click();
  const back = await attacker.page.getByRole('link', { name: 'Authorize' }).getAttribute('href');
  const victim = await fresh();
  await victim.page.goto(back ?? '');
  await victim.page.getByText('SIGN_IN_OTHER_BROWSER', { exact: true }).waitFor();
  expect(await victim.context.cookies()).toEqual([]);
  // It was not used up: whose it is can still use it.
  await attacker.page.getByRole('link', { name: 'Authorize' }).click();
  await attacker.page.waitForURL(/\/o\/org_/);
});

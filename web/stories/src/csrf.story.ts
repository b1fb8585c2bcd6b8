/** Pages of other origins have the victim's cookie sent along and achieve nothing with it. */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { launch, person } from './browser';
import { Mesh } from './mesh';

let mesh: Mesh;
let browser: Browser;
let victim: { context: BrowserContext; page: Page };
let attacker: Server;
let attackerPort: number;

beforeAll(async () => {
  mesh = await Mesh.start();
  browser = await launch();
  victim = await person(browser, mesh, 'alice');
  attacker = createServer((_, response) => response.setHeader('content-type', 'text/html').end('<!doctype html><title>prize</title>'));
  await new Promise<void>((resolve) => attacker.listen(0, '127.0.0.1', resolve));
  attackerPort = (attacker.address() as AddressInfo).port;
});

afterAll(async () => {
  attacker?.close();
  await browser?.close();
  await mesh?.dispose();
});

/** One gRPC-Web frame of a message with one string field. */
function frame(field: number, text: string): number[] {
  const bytes = [...Buffer.from(text)];
  const message = text === '' ? [] : [(field << 3) | 2, bytes.length, ...bytes];
  return [0, 0, 0, 0, message.length, ...message];
}

const SIGN_OUT = { method: '/foundry.auth.v1.AuthService/SignOut', body: frame(0, '') };
const CREATE = { method: '/foundry.auth.v1.AuthService/CreateOrganization', body: frame(2, 'stolen') };

/** Whether the victim's session works, and the names of its organizations as the mesh returns them to its own page. */
async function organizations(): Promise<string[]> {
  const names: string[] = await victim.page.evaluate(async () => {
    const key = Object.entries(localStorage).find(([name]) => name.includes('session-key'))?.[1] ?? '';
    const answer = await fetch('/foundry.auth.v1.AuthService/ListOrganizations', {
      method: 'POST',
      headers: { 'content-type': 'application/grpc-web+proto', 'x-grpc-web': '1', 'x-foundry-session-key': key },
      body: new Uint8Array(5),
    });
    const text = new TextDecoder('latin1').decode(await answer.arrayBuffer());
    const status = answer.headers.get('grpc-status') ?? /grpc-status:(\d+)/.exec(text)?.[1];
    if (status !== '0') throw new Error(`status ${status}`);
    return ['alice', 'stolen'].filter((name) => text.includes(name));
  });
  return names;
}

test('the page itself may, so the attacks below fail for what they are', async () => {
  expect(await organizations()).toEqual(['alice']);
});

for (const host of ['127.0.0.1', 'localhost'] as const) {
  test(`a page on another port of ${host} changes nothing with the victim's cookie`, async () => {
    const page = await victim.context.newPage();
    await page.goto(`http://${host}:${attackerPort}/`);
    const answers = await page.evaluate(attack, { target: mesh.url, calls: [SIGN_OUT, CREATE] });
    await page.waitForTimeout(0);
    for (const answer of answers) expect(answer).not.toMatch(/grpc-status: ?0|OPENED/);
    expect(answers.length).toBeGreaterThan(20);
    await formPosts(page);
    await page.close();
    expect(await organizations()).toEqual(['alice']);
  });
}

test('the cookie is sent to other ports of its host, and is worthless there', async () => {
  const cookies = await victim.context.cookies(mesh.url);
  expect(cookies).toHaveLength(1);
  const cookie = cookies[0];
  expect(cookie).toMatchObject({ name: `foundry_session_${mesh.port}`, httpOnly: true, sameSite: 'Strict', path: '/' });
  // What an agent's own server on this machine could do with a cookie that it received.
  const stolen = {
    cookie: `${cookie?.name}=${cookie?.value}`,
    origin: mesh.url,
    'content-type': 'application/grpc-web+proto',
    'x-grpc-web': '1',
  };
  for (const more of [
    {},
    { 'x-foundry-session-key': '' },
    { 'x-foundry-session-key': 'A'.repeat(43) },
    { 'sec-fetch-site': 'same-origin' },
  ]) {
    const answer = await fetch(`${mesh.url}${CREATE.method}`, {
      method: 'POST',
      headers: { ...stolen, ...more } as unknown as Record<string, string>,
      body: new Uint8Array(CREATE.body),
    });
    const text = `${answer.status} ${answer.headers.get('grpc-status')} ${await answer.text()}`;
    expect(text).not.toMatch(/^200 0 |grpc-status: ?0/);
  }
  expect(await organizations()).toEqual(['alice']);
});

/**
 * Runs in the attacker's page: tries every way in which a script can send, with the cookie where the browser permits
 * it.
 */
async function attack({ target, calls }: { target: string; calls: { method: string; body: number[] }[] }): Promise<string[]> {
  const answers: string[] = [];
  for (const { method, body } of calls) {
    const bytes = new Uint8Array(body);
    for (const mode of ['cors', 'no-cors'] as const) {
      for (const type of [
        'application/grpc-web+proto',
        'application/grpc-web',
        'application/grpc-web-text',
        'application/grpc',
        'text/plain',
        'application/x-www-form-urlencoded',
        '',
      ]) {
        try {
          const headers: Record<string, string> = type ? { 'content-type': type } : {};
          const answer = await fetch(target + method, { method: 'POST', mode, credentials: 'include', headers, body: new Blob([bytes]) });
          answers.push(`${mode} ${type}: ${answer.type} ${answer.status} grpc-status: ${answer.headers.get('grpc-status')}`);
        } catch (error) {
          answers.push(`${mode} ${type}: ${String(error)}`);
        }
      }
    }
    for (const type of ['text/plain', 'application/grpc-web+proto']) {
      try {
        answers.push(`beacon ${type}: ${navigator.sendBeacon(target + method, new Blob([bytes], { type }))}`);
      } catch (error) {
        answers.push(`beacon ${type}: ${String(error)}`);
      }
    }
    answers.push(
      await new Promise<string>((resolve) => {
        const socket = new WebSocket(target.replace('http', 'ws') + method);
        socket.onopen = () => resolve('socket: OPENED');
        socket.onerror = () => resolve('socket: refused');
      }),
    );
  }
  return answers;
}

/** Forms of each encoding, sent into a frame. */
async function formPosts(page: Page): Promise<void> {
  for (const { method } of [SIGN_OUT, CREATE]) {
    for (const enctype of ['text/plain', 'multipart/form-data', 'application/x-www-form-urlencoded']) {
      const answered = page.waitForResponse((r) => r.url().endsWith(method));
      await page.evaluate(
        ({ action, enctype }) => {
          const frame = document.createElement('iframe');
          frame.name = `f${Math.random()}`;
          const form = document.createElement('form');
          Object.assign(form, { method: 'POST', action, enctype, target: frame.name });
          const input = document.createElement('input');
          Object.assign(input, { name: '\u0000\u0000\u0000\u0000\u0008\u0012\u0006stolen', value: '' });
          form.append(input);
          document.body.append(frame, form);
          form.submit();
        },
        { action: mesh.url + method, enctype },
      );
      const response = await answered;
      expect(response.headers()['grpc-status']).not.toBe('0');
      expect(response.status()).not.toBe(200);
    }
  }
}

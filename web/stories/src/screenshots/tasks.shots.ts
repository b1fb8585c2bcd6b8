/** Tasks, repositories and the list in all their states. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll } from 'vitest';
import { Api } from '../api';
import { launch, signIn } from '../browser';
import { Mesh } from '../mesh';
import { Faults, Maker } from './made';
import { furnish, type World } from './world';
import { conversationScenes } from './conversationScenes';
import { listScenes } from './listScenes';
import { panelScenes } from './panelScenes';
import { provisioningScenes } from './provisioningScenes';
import { Studio, takeAll } from './studio';

let mesh: Mesh;
let browser: Browser;
let studio: Studio;
let silent: Server;
let world: World;
let faults: Faults;
const parent = mkdtempSync(join(tmpdir(), 'foundry-shots-'));

beforeAll(async () => {
  mkdirSync(parent, { recursive: true });
  faults = new Faults(parent);
  mesh = await Mesh.start(['repo.allow_private_addresses=true'], faults.directory);
  // A server that accepts connections and never answers, so that a repository there is never mirrored.
  silent = createServer(() => undefined);
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  const api = await Api.signIn(mesh, 'alice');
  world = await furnish(new Maker(api), mesh, faults, `https://127.0.0.1:${(silent.address() as AddressInfo).port}/greenhouse.git`);
  browser = await launch();
  studio = new Studio(browser, mesh.url, async (page) => await signIn(page, mesh, 'alice'));
});

afterAll(async () => {
  await browser?.close();
  silent?.close();
  faults?.release('install_agent');
  await mesh?.dispose();
  rmSync(parent, { recursive: true, force: true });
});

const now = (): World => world;
// The list first: its hanging states give up after a while.
takeAll([...provisioningScenes(now), ...listScenes(now), ...conversationScenes(now), ...panelScenes(now)], () => studio);

/** Two gateways in front of one mesh: a page moves from a stopping one to the other without a break. */
import { MeshProxy } from '@foundry/testing';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { PermissionPolicy } from '../../src/gen/foundry/common/v1/transcript_pb';
import { RepositoryState } from '../../src/gen/foundry/repo/v1/repo_pb';
import type { Foundry } from '../../src/foundry';
import { newRequestId } from '../../src/requestId';
import { sessionLog } from '../../src/sessionLog';
import { topics } from '../../src/topics';
import { type Gateway, Mesh } from './mesh';
import { isLive, logged, page, turnsEnded, until } from './page';

let mesh: Mesh;
let old: Gateway;
let fresh: Gateway;
let balancer: MeshProxy;
let client: Foundry;

beforeAll(async () => {
  mesh = await Mesh.start();
  old = await mesh.gateway();
  fresh = await mesh.gateway();
  balancer = await MeshProxy.before(old.port);
  client = page(balancer.url);
}, 120_000);

afterAll(async () => {
  client?.dispose();
  balancer?.close();
  await old?.stop();
  await fresh?.stop();
  await mesh?.dispose();
});

/** Starts a task whose agent writes for a while. */
async function speaking(): Promise<string> {
  const { organization } = await client.signIn(mesh.secret, 'ada');
  const organizationId = organization?.organizationId ?? '';
  const { repository } = await client.repo.createRepository({ requestId: newRequestId(), organizationId, url: mesh.origin() });
  const repositoryId = repository?.repositoryId ?? '';
  await until(client, topics.repository(repositoryId), ({ entities }) => {
    const item = entities.get(`repository/${repositoryId}`)?.item;
    return item?.case === 'repository' && item.value.state === RepositoryState.READY;
  });
  const prompt = 'stream 100 chunks\nwait 4 s\nstream 40 chunks\nsay All is done.';
  const { session } = await client.task.createTask({
    requestId: newRequestId(),
    organizationId,
    repositoryId,
    prompt,
    permissionPolicy: PermissionPolicy.ALLOW,
  });
  return session?.sessionId ?? '';
}

it('moves to the other gateway while the agent speaks: never stale, every entry once, no snapshot anew', async () => {
  const sessionId = await speaking();
  const topic = topics.session(sessionId, 0n);
  const offsets: bigint[] = [];
  const phases = new Set<string>();
  const connections = new Set<string>();
  let from = Infinity;
  const stops = [
    client.subscribe(topic, (state) => {
      const entries = sessionLog(state)?.entries ?? [];
      for (const { offset } of entries.slice(offsets.length)) offsets.push(offset);
      if (entries.length >= from) phases.add(state.phase);
    }),
    client.connection.subscribe(() => from < Infinity && connections.add(client.connection.get().phase)),
    client.subscribe(topics.appShell(), () => {}),
  ];
  await until(client, topic, (state) => isLive(state) && (sessionLog(state)?.entries.length ?? 0) > 3);
  from = offsets.length;
  balancer.lead(fresh.port);
  await old.stop();
  await until(client, topic, (state) => turnsEnded(state) === 1);
  for (const stop of stops) stop();
  expect(logged(client, 'drain')).toBeGreaterThan(0);
  expect(logged(client, 'reconnect')).toBe(0);
  expect(logged(client, 'opened')).toBe(2);
  expect(logged(client, 'snapshot', topic)).toBe(1);
  expect(offsets).toEqual(Array.from({ length: offsets.length }, (_, i) => BigInt(i + 1)));
  expect([...phases]).toEqual(['live']);
  expect([...connections].filter((phase) => phase !== 'open')).toEqual([]);
});

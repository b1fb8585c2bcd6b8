import { Code } from '@connectrpc/connect';
import { MeshProxy } from '@foundry/testing';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { PermissionPolicy } from '../../src/gen/foundry/common/v1/transcript_pb';
import { RepositoryState } from '../../src/gen/foundry/repo/v1/repo_pb';
import type { SessionItem } from '../../src/gen/foundry/task/v1/task_pb';
import { Foundry } from '../../src/foundry';
import { newRequestId } from '../../src/requestId';
import { MemorySessionKeyStore } from '../../src/sessionKey';
import { sessionLog } from '../../src/sessionLog';
import { topics } from '../../src/topics';
import type { Topic } from '../../src/types';
import { Mesh } from './mesh';
import { isLive, logged, page, pageFetch, turnsEnded, until } from './page';

let mesh: Mesh;
let network: MeshProxy;
let client: Foundry;
let organizationId: string;
let repositoryId: string;

beforeAll(async () => {
  mesh = await Mesh.start();
  network = await MeshProxy.before(mesh.port);
  const first = await signedIn();
  repositoryId = await register(first);
  first.dispose();
}, 120_000);

afterAll(async () => {
  network?.close();
  await mesh?.dispose();
});

beforeEach(async () => {
  client = await signedIn();
});
afterEach(() => client?.dispose());

async function signedIn(): Promise<Foundry> {
  const made = page(network.url);
  const { organization } = await made.signIn(mesh.secret, 'ada');
  organizationId = organization?.organizationId ?? '';
  return made;
}

async function register(at: Foundry): Promise<string> {
  const { repository } = await at.repo.createRepository({ requestId: newRequestId(), organizationId, url: mesh.origin() });
  const id = repository?.repositoryId ?? '';
  await until(at, topics.repository(id), ({ entities }) => {
    const item = entities.get(`repository/${id}`)?.item;
    return item?.case === 'repository' && item.value.state === RepositoryState.READY;
  });
  return id;
}

async function createTask(prompt: string): Promise<{ taskId: string; sessionId: string }> {
  const { task, session } = await client.task.createTask({
    requestId: newRequestId(),
    organizationId,
    repositoryId,
    prompt,
    permissionPolicy: PermissionPolicy.ALLOW,
  });
  return { taskId: task?.taskId ?? '', sessionId: session?.sessionId ?? '' };
}

/** Records every entry of a session in the order in which the page got them: appended ones once each. */
function record(topic: Topic<SessionItem>): { offsets: bigint[]; stop: () => void } {
  const offsets: bigint[] = [];
  let seen: unknown;
  let count = 0;
  const stop = client.subscribe(topic, (state) => {
    const entries = sessionLog(state)?.entries ?? [];
    if (entries !== seen) count = 0;
    seen = entries;
    for (const { offset } of entries.slice(count)) offsets.push(offset);
    count = entries.length;
  });
  return { offsets, stop };
}

function contiguous(last: bigint): bigint[] {
  return Array.from({ length: Number(last) }, (_, i) => BigInt(i + 1));
}

async function storedOffsets(sessionId: string): Promise<bigint[]> {
  const offsets: bigint[] = [];
  for (let from = 1n; ; ) {
    const { entries, lastOffset } = await client.task.listTranscript({ sessionId, fromOffset: from, pageSize: 500 });
    offsets.push(...entries.map(({ offset }) => offset));
    const last = offsets.at(-1) ?? 0n;
    if (entries.length === 0 || last >= lastOffset) return offsets;
    from = last + 1n;
  }
}

describe('a page at a real gateway', () => {
  it('shows the app shell and the organization as unary reads tell them', async () => {
    const shell = await until(client, topics.appShell(), isLive);
    const { user, organizations } = await client.auth.getAppShell({});
    expect(shell.entities.get(`user/${user?.userId}`)?.item.value).toEqual(user);
    for (const organization of organizations) {
      expect(shell.entities.get(`organization/${organization.organizationId}`)?.item.value).toEqual(organization);
    }
    expect(shell.entities.size).toBe(organizations.length + 1);

    // The summary is a projection: a new repository appears in it a moment later.
    const key = `repository/${repositoryId}`;
    const summary = await until(client, topics.organization(organizationId), (s) => isLive(s) && s.entities.has(key));
    const { repositories, tasks } = await client.task.getOrganizationSummary({ organizationId });
    for (const repository of repositories) {
      expect(summary.entities.get(`repository/${repository.repositoryId}`)?.item.value).toEqual(repository);
    }
    expect(summary.entities.size).toBe(repositories.length + tasks.length);
    expect(logged(client, 'opened')).toBe(1);
  });

  it('follows a task from its creation to the end of its turn, each transcript entry once', async () => {
    const { taskId, sessionId } = await createTask('write docs/hello.md: Hello there.\nstream 40 chunks\nsay All is done.');
    const topic = topics.session(sessionId, 0n);
    const recorder = record(topic);
    const session = await until(client, topic, (state) => turnsEnded(state) === 1);
    const stored = await storedOffsets(sessionId);
    await until(client, topic, (state) => (sessionLog(state)?.entries.length ?? 0) >= stored.length);
    recorder.stop();
    expect(recorder.offsets).toEqual(contiguous(stored.at(-1) ?? 0n));
    expect(sessionLog(session)?.session?.sessionId).toBe(sessionId);

    const task = await until(client, topics.task(taskId), isLive);
    const { task: read } = await client.task.getTask({ taskId });
    expect(task.entities.get(`task/${taskId}`)?.item.case).toBe('task');
    expect(read?.taskId).toBe(taskId);
  });

  it('shows only entries after the offset asked for', async () => {
    const { sessionId } = await createTask('stream 10 chunks');
    await until(client, topics.session(sessionId, 0n), (state) => turnsEnded(state) === 1);
    const late = await until(client, topics.session(sessionId, 3n), isLive);
    expect(sessionLog(late)?.entries[0]?.offset).toBe(4n);
  });

  it('resumes by one reconnect when the network is severed, with neither gap nor duplicate nor snapshot', async () => {
    const { taskId, sessionId } = await createTask('stream 100 chunks\nwait 3 s\nsay All is done.');
    const topic = topics.session(sessionId, 0n);
    const recorder = record(topic);
    const stopTask = client.subscribe(topics.task(taskId), () => {});
    await until(client, topic, (state) => (sessionLog(state)?.entries.length ?? 0) > 3);
    await until(client, topics.task(taskId), isLive);
    network.sever();
    await until(client, topic, (state) => turnsEnded(state) === 1);
    await until(client, topics.task(taskId), isLive);
    const stored = await storedOffsets(sessionId);
    await until(client, topic, (state) => (sessionLog(state)?.entries.length ?? 0) >= stored.length);
    recorder.stop();
    stopTask();
    expect(recorder.offsets).toEqual(contiguous(stored.at(-1) ?? 0n));
    expect(logged(client, 'reconnect')).toBe(1);
    expect(logged(client, 'opened')).toBe(2);
    expect(logged(client, 'snapshot', topic)).toBe(1);
    expect(logged(client, 'resumed', topic)).toBe(1);
  });

  it('recovers by itself when the mesh is killed in the middle of a turn and started again', async () => {
    const { sessionId } = await createTask('stream 100 chunks\nwait 5 s\nstream 20 chunks\nsay All is done.');
    const topic = topics.session(sessionId, 0n);
    const recorder = record(topic);
    await until(client, topic, (state) => (sessionLog(state)?.entries.length ?? 0) > 3);
    await mesh.kill();
    await until(client, topic, ({ phase }) => phase === 'stale');
    expect(['reconnecting', 'open']).toContain(client.connection.get().phase);
    await mesh.startAgain();
    await until(client, topic, (state) => isLive(state) && turnsEnded(state) === 1);
    const stored = await storedOffsets(sessionId);
    await until(client, topic, (state) => (sessionLog(state)?.entries.length ?? 0) >= stored.length);
    recorder.stop();
    expect(recorder.offsets).toEqual(contiguous(stored.at(-1) ?? 0n));
    expect(logged(client, 'reset', topic)).toBe(0);
    expect(logged(client, 'snapshot', topic)).toBe(1);
  });

  it('goes on after the mesh was stopped in good order and started again', async () => {
    await until(client, topics.organization(organizationId), isLive);
    const keep = client.subscribe(topics.organization(organizationId), () => {});
    await mesh.stop();
    expect(logged(client, 'drain')).toBeGreaterThan(0);
    await mesh.startAgain();
    await until(client, topics.organization(organizationId), isLive);
    keep();
    expect(logged(client, 'snapshot', topics.organization(organizationId))).toBe(1);
  });

  it('ends a topic that does not exist, with its reason, and the others go on', async () => {
    await until(client, topics.appShell(), isLive);
    const ended = await until(client, topics.task('tsk_00000000000000000000000000'), ({ phase }) => phase === 'ended');
    expect([Code.NotFound, Code.InvalidArgument]).toContain(ended.error?.code);
    expect(ended.error?.reason).toMatch(/^[A-Z_]+$/);
    expect(client.topicState(topics.appShell())?.phase).toBe('live');
  });

  /** Ends a page's session from another client; returns the milliseconds after which the page was cut off. */
  async function cutOff(): Promise<number> {
    const [fetch, keys] = [pageFetch(network.url), new MemorySessionKeyStore()];
    const elsewhere = new Foundry({ baseUrl: network.url, fetch, sessionKey: keys, worker: 'page' });
    await elsewhere.signIn(mesh.secret, 'ada');
    client.dispose();
    client = page(network.url, fetch, keys.get());
    await until(client, topics.appShell(), isLive);
    const signedOut = new Promise<void>((resolve) => {
      client.connection.subscribe(() => {
        if (client.connection.get().phase === 'signed-out') resolve();
      });
    });
    const stop = client.subscribe(topics.appShell(), () => {});
    await elsewhere.signOut();
    elsewhere.dispose();
    const since = Date.now();
    await signedOut;
    const took = Date.now() - since;
    stop();
    expect(client.topicState(topics.appShell())?.entities.size).toBe(0);
    await expect(client.auth.getAppShell({})).rejects.toMatchObject({ code: Code.Unauthenticated });
    return took;
  }

  it('is cut off within a second when its session ends elsewhere, and shows nothing any more', async () => {
    const took = [await cutOff(), await cutOff(), await cutOff()];
    // The median: one run may be slow because the machine is busy, and one may be fast by chance even if the page
    // only polls.
    expect(took.sort((a, b) => a - b)[1]).toBeLessThan(1_000);
  });

  it('gives errors of calls with reason and fields', async () => {
    await expect(client.task.getTask({ taskId: 'tsk_00000000000000000000000000' })).rejects.toMatchObject({
      name: 'FoundryError',
      reason: expect.stringMatching(/^[A-Z_]+$/) as string,
    });
    await expect(client.signIn('not the secret', 'ada')).rejects.toMatchObject({ name: 'FoundryError' });
  });
});

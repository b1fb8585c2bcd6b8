/** An organization with repositories and tasks in every state. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { SessionState, TaskState } from '@foundry/client/gen/foundry/task/v1/task_pb';
import { Api } from '../api';
import type { Mesh } from '../mesh';
import { makeOrigin } from '@foundry/testing';
import { type Faults, type Made, type Maker, until } from './made';

/** The contents of the organization. */
export interface World {
  readonly organizationId: string;
  readonly repositories: { readonly ready: string; readonly pending: string; readonly failing: string };
  readonly tasks: Readonly<Record<TaskName, Made>>;
}

/** The tasks by the state that they show. */
export type TaskName =
  | 'provisioning'
  | 'retrying'
  | 'failed'
  | 'streaming'
  | 'running'
  | 'asking'
  | 'queued'
  | 'held'
  | 'long'
  | 'troubled'
  | 'hostile'
  | 'changed'
  | 'unchanged'
  | 'gone'
  | 'killed'
  | 'archived'
  | 'sessions';

const repeated = (text: string, times: number): string =>
  Array.from({ length: times }, (_, i) => text.replaceAll('#', String(i + 1))).join('\n');

const LONG = `think The counting loop looks at every leaf; the index would do. I will measure first and then change one thing.
plan: Read the code; Change the greeting; Run it; Sum up
read README.md
say ## What I found
say The greeting is read from \`src/greeting.txt\`, and **nothing else** uses it. Two things are worth a look: the [contributing guide](https://example.org/contributing) and the ~~old~~ parser.
replace Hello with Good day in src/greeting.txt
run printf '\\033[32mok\\033[0m   parser::tree\\n\\033[32mok\\033[0m   greeting::words\\n\\033[33mwarn\\033[0m slow::season took 3 s\\n'; ls -la src
write src/season.ts: export const season = 'autumn';
say Done: the greeting says *good day*, and the season is there to be counted.`;

const PROMPTS: Readonly<Record<Exclude<TaskName, 'retrying' | 'killed' | 'archived' | 'gone'>, string>> = {
  provisioning: 'Count the apples of each row and write them into a table. Then say how long it took.',
  failed: 'Translate the README into the languages of the other teams, and keep the headings as they are.',
  streaming: `run ls\nsay The index is built from the leaves upwards, so that a row can be counted without its neighbours. I am now looking at how the parser treats a branch that was cut: it is read to its end, and then\nwait 60 minutes`,
  running: 'run ls src\nrun echo "compiling orchard v0.3.0"; echo "compiling parser v0.3.0"; sleep 900',
  asking: 'say The old index is not used by anything any more.\nask before running `rm -rf build/index && ls`',
  queued: 'say Working through the rows, one after the other.\nwait 60 minutes',
  held: 'say Working through the rows.\nwait 60 minutes',
  long: LONG,
  troubled: 'read README.md\nrun exit 3\nfail with the model answered with an error: overloaded, try again later',
  hostile: 'emit hostile text\nprint a 20 KiB line',
  changed: `replace Hello with Good day in src/greeting.txt
write src/counting/rows.ts: export function rows(n: number): number[] { return Array.from({ length: n }, (_, i) => i + 1); }
delete logo.bin
rename src/parser/tree.ts to src/parser/branches.ts
append README.md: The orchard also counts pears since this spring, which took longer than anybody had thought it would take.
run printf '\\000\\001\\002' > picture.bin; seq 1 400000 > harvest.csv; sed -i 's/branch1[0-9] = /twig = /' src/parser/branches.ts; mkdir -p docs; printf '# Pears\\n\\n%s\\n' one two three > docs/pears.md`,
  unchanged: 'say There was nothing to change: the greeting is right as it is.',
  sessions: 'say The first conversation.',
};

const TITLES: Partial<Record<TaskName, string>> = {
  streaming: 'Explain how the index is built',
  running: 'Build the parser',
  asking: 'Remove the old index',
  queued: 'Walk through the rows',
  held: 'Walk through the columns',
  long: 'Change the greeting and add the season',
  troubled: 'Measure the counting loop',
  hostile: 'Show what an unfriendly program prints',
  changed: 'Rename the parser and count pears, with a title that is longer than the place it has anywhere on the page',
  unchanged: 'Check the greeting',
  sessions: 'Compare two ways of counting',
  gone: 'Prune the hedge',
  killed: 'Count the leaves of every tree',
  archived: 'Paint the fence',
  retrying: 'Water the seedlings',
};

const CHANGED_AT_LEAST = 6;

/** Creates all of it. `silentUrl` is the URL of a repository that never answers. */
export async function furnish(maker: Maker, mesh: Mesh, faults: Faults, silentUrl: string): Promise<World> {
  const { api } = maker;
  const ready = await maker.repository(makeOrigin(mesh.dir, 'orchard'), 'orchard');
  const orchid = await maker.repository(makeOrigin(mesh.dir, 'orchid-house'), 'orchid-house');
  const failing = await brokenRepository(maker, mesh);
  const pending =
    (await api.repo.createRepository({ organizationId: api.organizationId, url: silentUrl, name: 'greenhouse' })).repository
      ?.repositoryId ?? '';
  const make = async (name: TaskName, prompt: string, repository = ready, more = {}): Promise<Made> =>
    await maker.task(repository, prompt, { title: TITLES[name] ?? '', ...more });

  const tasks: Partial<Record<TaskName, Made>> = {};
  for (const name of [
    'long',
    'troubled',
    'hostile',
    'changed',
    'unchanged',
    'sessions',
    'streaming',
    'running',
    'queued',
    'held',
  ] as const) {
    tasks[name] = await make(name, PROMPTS[name]);
  }
  tasks.asking = await make('asking', PROMPTS.asking, ready, { asks: true });
  for (const name of ['gone', 'killed', 'archived'] as const)
    tasks[name] = await make(name, 'write fence.txt: green\nsay It is done.', orchid);
  const all = tasks as Record<TaskName, Made>;

  await converse(maker, all);
  await endings(maker, all);
  await otherSessions(maker, all, mesh);

  // The next tasks never get as far as an agent.
  faults.fail('prepare_repo', 1000);
  all.retrying = await make('retrying', 'Water the seedlings, twice a day.', orchid, { provider: 'fault' });
  await maker.when(all.retrying, 'a second attempt', (task) => task.stages.some((it) => it.attempts >= 3));
  faults.fail('prepare_repo', 0);
  faults.hang('install_agent');
  all.provisioning = await make('provisioning', PROMPTS.provisioning, ready, { provider: 'fault' });
  await maker.when(all.provisioning, 'installing the agent', (task) =>
    task.stages.some((it) => it.name === 'agent_installing' && it.attempts > 0),
  );
  await maker.say(all.provisioning, 'And add the sum of all rows at the end.');
  all.failed = await make('failed', PROMPTS.failed, orchid, { agent: 'claude' });
  await maker.when(all.failed, 'failed', (task) => task.state === TaskState.ERROR);
  return { organizationId: api.organizationId, repositories: { ready, pending, failing }, tasks: all };
}

/** A repository that was mirrored once before its origin disappeared. */
async function brokenRepository(maker: Maker, mesh: Mesh): Promise<string> {
  const origin = makeOrigin(mesh.dir, 'meadow');
  const repositoryId = await maker.repository(origin, 'meadow');
  rmSync(join(origin, '.git'), { recursive: true });
  await maker.api.repo.requestRepositoryRefresh({ repositoryId });
  await until('an error of the repository', async () => {
    const now = await maker.api.repo.getRepository({ repositoryId });
    return (now.repository?.condition?.reason ?? '') !== '';
  });
  return repositoryId;
}

/** Sends the messages after the first prompts. */
async function converse(maker: Maker, tasks: Record<TaskName, Made>): Promise<void> {
  const idle = async (name: TaskName): Promise<Made> =>
    await maker.when(tasks[name], `${name} idle`, (_, session) => session.state === SessionState.IDLE && session.queueLength === 0);
  const running = async (name: TaskName): Promise<Made> =>
    await maker.when(tasks[name], `${name} running`, (_, session) => session.state === SessionState.RUNNING);
  await idle('long');
  await maker.say(tasks.long, repeated('say Row # has been counted.\nread src/greeting.txt', 30));
  await idle('long');
  await maker.say(tasks.long, 'help');
  await idle('long');
  await maker.say(tasks.long, LONG);
  await idle('long');
  await maker.when(tasks.troubled, 'the failed turn', (_, session) => session.state === SessionState.IDLE);
  await maker.say(tasks.troubled, 'say Trying once more.\nrefuse');
  await idle('troubled');
  await maker.say(tasks.troubled, 'say And once more, with the old compiler.\ncrash');
  await maker.when(
    tasks.troubled,
    'the agent gone',
    (_, session) => session.state === SessionState.INTERRUPTED || session.state === SessionState.IDLE,
  );
  await running('queued');
  await running('held');
  for (const name of ['queued', 'held'] as const) {
    await maker.say(tasks[name], 'say Now the pears.');
    await maker.say(
      tasks[name],
      'Then compare both with what was counted in the year before, and write the differences that are larger than a tenth into the table of the README, newest first.',
    );
    await maker.say(tasks[name], 'say Thank you.');
  }
  await maker.api.task.stopTurn({ sessionId: tasks.held.sessionId });
  await maker.when(tasks.held, 'the queue held', (_, session) => session.queueHeld);
  await maker.when(tasks.asking, 'the question', (_, session) => session.pendingPermission !== undefined);
  await maker.when(tasks.changed, 'the changes', (task) => (task.changes?.filesChanged ?? 0) >= CHANGED_AT_LEAST);
  await running('running');
  await running('streaming');
}

/** Sandboxes that are lost, and tasks that are killed and archived. */
async function endings(maker: Maker, tasks: Record<TaskName, Made>): Promise<void> {
  const { api } = maker;
  for (const name of ['gone', 'killed', 'archived'] as const) {
    await maker.when(tasks[name], `${name} saved`, (task) => task.state === TaskState.IDLE && (task.changes?.filesChanged ?? 0) > 0);
  }
  await api.task.killTask({ taskId: tasks.killed.taskId });
  await api.task.archiveTask({ taskId: tasks.archived.taskId });
  const { task } = await api.task.getTask({ taskId: tasks.gone.taskId });
  await api.provisioner.destroySandbox({ sandboxId: task?.sandboxId ?? '' });
  await maker.when(tasks.killed, 'killed', (it) => it.state === TaskState.KILLED);
  await maker.when(tasks.archived, 'archived', (it) => it.state === TaskState.ARCHIVED);
}

/** A task with several sessions, one of them closed, and with messages of another member. */
async function otherSessions(maker: Maker, tasks: Record<TaskName, Made>, mesh: Mesh): Promise<void> {
  const { api } = maker;
  const { taskId } = tasks.sessions;
  await maker.when(tasks.sessions, 'ready', (task) => task.state === TaskState.IDLE);
  for (const name of ['By rows', 'By columns', 'By the colour of the apples']) {
    const made = await api.task.createSession({ taskId, name });
    const sessionId = made.session?.sessionId ?? '';
    await api.task.sendMessage({ sessionId, text: `say This is the conversation ${name.toLowerCase()}.` });
    await maker.when({ taskId, sessionId }, `session ${name}`, (_, session) => session.state === SessionState.IDLE);
    if (name === 'By columns') await api.task.closeSession({ sessionId });
  }
  await Api.signIn(mesh, 'bob');
  await api.addMember('bob');
  const bob = await Api.signIn(mesh, 'bob', 'alice');
  await bob.task.sendMessage({ sessionId: tasks.sessions.sessionId, text: 'say Bob looked at it too.' });
  await maker.when(tasks.sessions, 'the words of bob', (_, session) => session.state === SessionState.IDLE && session.lastOffset > 5n);
}

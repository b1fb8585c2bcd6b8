/** Creates tasks and brings them into the states of the pictures. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { RepositoryState } from '@foundry/client/gen/foundry/repo/v1/repo_pb';
import { PermissionPolicy } from '@foundry/client/gen/foundry/common/v1/transcript_pb';
import type { Session, Task } from '@foundry/client/gen/foundry/task/v1/task_pb';
import type { Api } from '../api';

/** Most milliseconds to wait for a state. */
const PATIENCE = 120_000;

/** A task and its first session. */
export interface Made {
  readonly taskId: string;
  readonly sessionId: string;
}

/** Options of a task besides its prompt. */
export interface Choices {
  readonly title?: string;
  readonly provider?: string;
  readonly agent?: string;
  /** Whether the agent asks for permission before it acts. */
  readonly asks?: boolean;
}

/** Calls `look` until it returns something. */
export async function until<T>(what: string, look: () => Promise<T | undefined | false>): Promise<T> {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > end) throw new Error(`never came: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 150));
  }
}

/** Creates things for one person in one organization. */
export class Maker {
  constructor(readonly api: Api) {}

  /** Registers a repository and waits until it is mirrored. */
  async repository(url: string, name: string): Promise<string> {
    const { organizationId } = this.api;
    const made = await this.api.repo.createRepository({ organizationId, url, name });
    const repositoryId = made.repository?.repositoryId ?? '';
    await until(`repository ${name}`, async () => {
      const now = await this.api.repo.getRepository({ repositoryId });
      return now.repository?.state === RepositoryState.READY;
    });
    return repositoryId;
  }

  /** Creates a task. */
  async task(repositoryId: string, prompt: string, choices: Choices = {}): Promise<Made> {
    const { organizationId } = this.api;
    const { asks = false, ...rest } = choices;
    const permissionPolicy = asks ? PermissionPolicy.ASK : PermissionPolicy.ALLOW;
    const made = await this.api.task.createTask({ organizationId, repositoryId, prompt, permissionPolicy, ...rest });
    return { taskId: made.task?.taskId ?? '', sessionId: made.session?.sessionId ?? '' };
  }

  /** Waits until `is` holds for a task and its first session. */
  async when(made: Made, what: string, is: (task: Task, session: Session) => boolean): Promise<Made> {
    await until(what, async () => {
      const now = await this.api.task.getTask({ taskId: made.taskId });
      const session = now.sessions.find((it) => it.sessionId === made.sessionId);
      return now.task !== undefined && session !== undefined && is(now.task, session);
    });
    return made;
  }

  /** Sends a message to the first session of a task. */
  async say(made: Made, text: string): Promise<void> {
    await this.api.task.sendMessage({ sessionId: made.sessionId, text });
  }
}

/** Controls the provider `fault` by files in a directory. */
export class Faults {
  readonly directory: string;

  constructor(parent: string) {
    this.directory = join(parent, 'faults');
    mkdirSync(this.directory, { recursive: true });
  }

  /** Calls of a stage hang until `release`. */
  hang(stage: string): void {
    writeFileSync(join(this.directory, `${stage}.hang`), '');
  }

  /** Calls of a stage continue. */
  release(stage: string): void {
    rmSync(join(this.directory, `${stage}.hang`), { force: true });
  }

  /** The next calls of a stage fail. */
  fail(stage: string, times: number): void {
    writeFileSync(join(this.directory, `${stage}.fail`), String(times));
  }
}

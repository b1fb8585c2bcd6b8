/** A forge with private Git repositories: real `git http-backend`, and the APIs for pull requests, checks and reviews. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { binary, end, makeOrigin } from '@foundry/testing';

/** The program beside the binary under test (`crates/testkit/examples/forge-host.rs`). */
function program(): string {
  const path = join(dirname(binary()), 'examples/forge-host');
  if (!existsSync(path)) throw new Error(`${path} is missing: run \`make build\``);
  return path;
}

const IDENTITY = ['-c', 'user.name=Somebody else', '-c', 'user.email=else@example.org', '-c', 'commit.gpgsign=false'];

/** Runs git in a directory; it must succeed. */
export function git(directory: string, ...args: string[]): string {
  const done = spawnSync('git', ['-C', directory, ...IDENTITY, ...args], { encoding: 'utf8' });
  if (done.status !== 0) throw new Error(`git ${args.join(' ')}: ${done.stderr}`);
  return done.stdout.trim();
}

interface Addresses {
  readonly origin: string;
  readonly host: string;
  readonly apis: Readonly<Record<'github' | 'gitlab' | 'gitea', string>>;
}

/** How a check has ended, if it has. */
export type Ended = 'passed' | 'failed' | 'pending';

/** A running forge with repositories that are called `team/…`. */
export class Forge {
  private readonly answers: AsyncIterator<string>;
  private addresses: Addresses | undefined;

  private constructor(
    private readonly child: ChildProcess & { stdin: NodeJS.WritableStream; stdout: NodeJS.ReadableStream },
    /** Where its repositories are, and the trees of those who push to them. */
    private readonly root: string,
  ) {
    this.answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  /** Starts it without repositories. */
  static async start(): Promise<Forge> {
    const root = mkdtempSync(join(tmpdir(), 'foundry-forge-'));
    const child = spawn(program(), [root], { stdio: ['pipe', 'pipe', 'inherit'] });
    const forge = new Forge(child, root);
    forge.addresses = await forge.next<Addresses>();
    return forge;
  }

  /** Address of a repository for `git clone`. */
  url(repository: string): string {
    return `${this.addresses?.origin}/${repository}.git`;
  }

  /** The settings of a mesh that may reach it. */
  get settings(): string[] {
    const { host, apis } = this.addresses ?? { host: '', apis: { github: '' } };
    return ['repo.allow_http=true', 'repo.allow_private_addresses=true', `repo.forges=["${host} github ${apis.github}"]`];
  }

  /** Makes a repository with a few files; returns a tree in which somebody else works, with `origin` as its remote. */
  repository(name: string): string {
    const bare = join(this.root, `${name}.git`);
    mkdirSync(dirname(bare), { recursive: true });
    const tree = makeOrigin(this.root, `tree-of-${name.replaceAll('/', '-')}`);
    git(this.root, 'clone', '--quiet', '--bare', tree, bare);
    git(bare, 'config', 'http.receivepack', 'true');
    git(tree, 'remote', 'add', 'origin', bare);
    git(tree, 'fetch', '--quiet', 'origin');
    return tree;
  }

  /** Makes a repository without a commit. */
  emptyRepository(name: string): void {
    const bare = join(this.root, `${name}.git`);
    mkdirSync(bare, { recursive: true });
    git(bare, 'init', '--quiet', '--bare', '--initial-branch=main');
  }

  /** Where a branch of a repository is; empty if there is none. */
  tip(repository: string, branch: string): string {
    return git(join(this.root, `${repository}.git`), 'for-each-ref', '--format=%(objectname)', `refs/heads/${branch}`);
  }

  /** A file of a branch of a repository. */
  file(repository: string, branch: string, path: string): string {
    return git(join(this.root, `${repository}.git`), 'show', `refs/heads/${branch}:${path}`);
  }

  /** Lets nobody in without this token from now on. */
  async require(token: string): Promise<void> {
    await this.command('require', token, Buffer.from(`x-access-token:${token}`).toString('base64'));
  }

  /** Reports a check of the commit that a branch is at. */
  async check(repository: string, branch: string, name: string, ended: Ended): Promise<void> {
    await this.command('check', repository, branch, name, ended);
  }

  /** Adds a review: `APPROVED`, `CHANGES_REQUESTED` or `COMMENTED`. */
  async review(repository: string, number: number, reviewer: string, said: string): Promise<void> {
    await this.command('review', repository, String(number), reviewer, said);
  }

  /** Adds a comment on a line, with a review that says nothing else. */
  async comment(
    repository: string,
    number: number,
    reviewer: string,
    [path, line]: readonly [string, number],
    text: string,
  ): Promise<void> {
    await this.command('comment', repository, String(number), reviewer, path, String(line), text);
  }

  /** Opens a pull request as somebody else. */
  async open(repository: string, branch: string, base: string, title: string): Promise<number> {
    return await this.command<number>('open', repository, branch, base, title);
  }

  /** Numbers and titles of the pull requests of a repository. */
  async pulls(repository: string): Promise<[number, string][]> {
    return await this.command<[number, string][]>('pulls', repository);
  }

  /** Leaves this many calls until the host answers no more of them. */
  async leaveCalls(count: number): Promise<void> {
    await this.command('leave calls', String(count));
  }

  /** Ends it and removes its repositories. */
  async close(): Promise<void> {
    this.child.stdin.end();
    await end(this.child, 'SIGTERM');
    rmSync(this.root, { recursive: true, force: true });
  }

  private async command<T = null>(...words: string[]): Promise<T> {
    this.child.stdin.write(`${JSON.stringify(words)}\n`);
    return await this.next<T>();
  }

  private async next<T>(): Promise<T> {
    const { value, done } = await this.answers.next();
    if (done === true) throw new Error('the forge has ended');
    const answer = JSON.parse(value) as T | { error: string };
    if (answer !== null && typeof answer === 'object' && 'error' in answer) throw new Error(answer.error);
    return answer as T;
  }
}

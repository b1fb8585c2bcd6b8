/** A real mesh in one process, with its own data directory and ports. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

const READY_MS = 60_000;
const STOP_MS = 40_000;
/** How often a mesh is started with ports of its own. */
const ATTEMPTS = 3;

/** The binary under test: `FOUNDRY_BIN`. Throws when it is missing: a story without a mesh shows nothing. */
export function binary(): string {
  const path = process.env['FOUNDRY_BIN'];
  if (!path || !existsSync(path)) throw new Error('FOUNDRY_BIN names no binary: run `make build` and set it, or `make test`');
  return path;
}

/** The same with the sandbox provider `fault`, beside it. */
function faultyBinary(): string {
  const path = join(dirname(binary()), 'foundry-with-faults');
  if (!existsSync(path)) throw new Error(`${path} is missing: run \`make build\``);
  return path;
}

/** Settings by which sandboxes are made by the provider `fault` unless a task names another. */
export const FAULT_BY_DEFAULT = ['provisioner.default_provider=fault', 'task.default_provider=fault'];

/** Processes whose command line names a directory, which is a fresh temporary one. */
function processesNaming(directory: string): number[] {
  const pids = readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 1 && pid !== process.pid);
  return pids.filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(directory);
    } catch {
      return false;
    }
  });
}

/** Where the ports of meshes are: below those that systems give to connections, which a browser opens many of. */
const PORTS = { from: 20_000, to: 32_000 };

async function freePort(): Promise<number> {
  for (let attempt = 1; ; attempt += 1) {
    const port = PORTS.from + Math.floor(Math.random() * (PORTS.to - PORTS.from));
    const free = await new Promise<boolean>((resolve) => {
      const server = createServer();
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
    if (free) return port;
    if (attempt === 100) throw new Error('no free port');
  }
}

/** A running mesh. */
export class Mesh {
  private process: ChildProcess | undefined;
  private readonly services = ['gateway', 'auth', 'repo', 'provisioner', 'task'];

  private constructor(
    readonly dir: string,
    private readonly ports: number[],
    private readonly settings: string[],
    private readonly faults: string | undefined,
  ) {}

  /**
   * Starts one and waits until it is ready; `settings` are `key=value` as for `--set`. With a directory of faults it
   * has the sandbox provider `fault` too, which files in there steer.
   */
  static async start(settings: string[] = [], faults?: string): Promise<Mesh> {
    for (let attempt = 1; ; attempt += 1) {
      const ports = await Promise.all(Array.from({ length: 6 }, freePort));
      const mesh = new Mesh(mkdtempSync(join(tmpdir(), 'foundry-web-')), ports, settings, faults);
      try {
        await mesh.startAgain();
        return mesh;
      } catch (error) {
        // A port that was free a moment ago may be that of another mesh by now.
        if (attempt === ATTEMPTS || !mesh.logTail().includes('ADDRESS_UNAVAILABLE')) throw error;
        await mesh.removeDirectory();
      }
    }
  }

  /** Where the page is. */
  get url(): string {
    return `http://127.0.0.1:${this.ports[0]}`;
  }

  /** Port of the gateway. */
  get port(): number {
    return this.ports[0] ?? 0;
  }

  /** Its data directory. */
  get data(): string {
    return join(this.dir, 'data');
  }

  /** The secret of the development sign-in. */
  get secret(): string {
    return readFileSync(join(this.data, 'auth/dev-sign-in.secret'), 'utf8').trim();
  }

  /** The end of its log, for failures. */
  logTail(): string {
    return readFileSync(join(this.dir, 'mesh.log'), 'utf8').split('\n').slice(-30).join('\n');
  }

  /** Starts it again after `kill` or `stop`, on the same ports and data. */
  async startAgain(): Promise<void> {
    const sets = this.services.map((name, i) => `servers.${name}.listen=127.0.0.1:${this.ports[i]}`);
    sets.push(`admin.listen=127.0.0.1:${this.ports[5]}`, ...this.settings);
    const log = openSync(join(this.dir, 'mesh.log'), 'a');
    if (this.faults !== undefined) sets.push('task.providers=["local", "fault"]');
    const program = this.faults === undefined ? binary() : faultyBinary();
    this.process = spawn(program, ['up', ...sets.flatMap((s) => ['--set', s])], {
      env: this.environment(),
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    const until = Date.now() + READY_MS;
    while (!(await this.serves())) {
      if (this.process.exitCode !== null) throw new Error(`the mesh ended while starting\n${this.logTail()}`);
      if (Date.now() > until) throw new Error(`the mesh is not ready\n${this.logTail()}`);
      await new Promise((r) => setTimeout(r, 50));
    }
  }

  private async serves(): Promise<boolean> {
    try {
      return (await fetch(`${this.url}/healthz`)).ok;
    } catch {
      return false;
    }
  }

  private environment(): NodeJS.ProcessEnv {
    // What steers the stories is no setting of the mesh.
    const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('FOUNDRY_'));
    return {
      ...Object.fromEntries(inherited),
      ...(this.faults === undefined ? {} : { FAULT_DIRECTORY: this.faults }),
      FOUNDRY_DATA_DIR: this.data,
      FOUNDRY_ADDRESS: this.url,
      XDG_CONFIG_HOME: join(this.dir, 'config'),
      FOUNDRY_DEMO_AGENT_SECOND_MS: '200',
    };
  }

  /** Kills the process with -9. */
  async kill(): Promise<void> {
    await this.end('SIGKILL');
  }

  /** Stops it with SIGTERM. */
  async stop(): Promise<void> {
    await this.end('SIGTERM');
  }

  private async end(signal: NodeJS.Signals): Promise<void> {
    const child = this.process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.kill(signal);
    const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
    await ended;
    clearTimeout(late);
  }

  /** Runs a command of the CLI that must succeed; returns its standard output. */
  cli(...args: string[]): string {
    const done = spawnSync(binary(), args, { env: this.environment(), encoding: 'utf8', timeout: 120_000 });
    if (done.status !== 0) throw new Error(`foundry ${args.join(' ')}: ${done.status}\n${done.stdout}\n${done.stderr}\n${this.logTail()}`);
    return done.stdout;
  }

  /** Destroys all sandboxes, stops the mesh and removes its directory. */
  async dispose(): Promise<void> {
    try {
      if (this.process?.exitCode === null && this.process.signalCode === null) await this.destroySandboxes();
    } finally {
      await this.stop();
      await this.removeDirectory();
    }
  }

  /** Removes its directory, and ends what still runs in it: sandboxes outlive the mesh, also those nobody destroyed. */
  private async removeDirectory(): Promise<void> {
    for (const until = Date.now() + STOP_MS; ; await new Promise((r) => setTimeout(r, 100))) {
      for (const pid of processesNaming(this.data)) {
        try {
          process.kill(pid, 'SIGKILL');
        } catch {
          // It ended by itself meanwhile.
        }
      }
      try {
        rmSync(this.dir, { recursive: true, force: true });
        return;
      } catch (error) {
        if (Date.now() > until) throw error;
      }
    }
  }

  /** Asks for the end of all sandboxes and waits for it: what outlives the mesh is nobody's any more. */
  private async destroySandboxes(): Promise<void> {
    if (!existsSync(join(this.dir, 'config'))) return; // the CLI is not signed in; `removeDirectory` ends what runs
    const asked = new Set<string>();
    const until = Date.now() + STOP_MS;
    for (let left = this.sandboxes(); left.length > 0 && Date.now() < until; left = this.sandboxes()) {
      for (const id of left.filter((each) => !asked.has(each))) {
        asked.add(id);
        spawnSync(binary(), ['sandbox', 'destroy', id], { env: this.environment(), timeout: 60_000 });
      }
      await new Promise((r) => setTimeout(r, 200));
    }
  }

  private sandboxes(): string[] {
    const list = this.cli('sandbox', 'list', '--output', 'json');
    return [...new Set([...list.matchAll(/"sandboxId":"([^"]+)"/g)].map((m) => m[1] ?? ''))];
  }
}

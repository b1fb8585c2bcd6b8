/** A real mesh in one process, with its own data directory and ports. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const READY_MS = 60_000;
const STOP_MS = 40_000;
/** Most attempts to start a mesh on other ports. */
const ATTEMPTS = 3;

/** The binary under test: `FOUNDRY_BIN`. Throws when it is missing, because nothing can be tested without it. */
export function binary(): string {
  const path = process.env['FOUNDRY_BIN'];
  if (!path || !existsSync(path)) throw new Error('FOUNDRY_BIN names no binary: run `make build` and set it, or `make test`');
  return path;
}

/** Processes with this directory in their command line; it is a fresh temporary one. */
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

/** Ports of meshes: below the range of outgoing connections, of which a browser opens many. */
const PORTS = { from: 20_000, to: 32_000 };

/** A port of this machine that is free at the moment. */
export async function freePort(): Promise<number> {
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

/** Whether a process has not ended. */
function runs(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null;
}

/** Ends a process: regularly with SIGTERM, or as a crash with SIGKILL. */
export async function end(child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  if (!runs(child)) return;
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill(signal);
  const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
  await ended;
  clearTimeout(late);
}

/** How a mesh differs from the default. */
export interface MeshOptions {
  /** The program to start; default: the binary under test. */
  readonly program?: string;
  /** `key=value` as for `--set`. */
  readonly settings?: readonly string[];
  /** Environment variables besides those that every mesh has. */
  readonly env?: Readonly<Record<string, string>>;
}

/** The services of a mesh by name, as the binary under test lists them in its configuration; the gateway first. */
function services(): string[] {
  const configuration = execFileSync(binary(), ['config', '--data-dir', '/'], { env: {}, encoding: 'utf8' });
  const names: readonly string[] = configuration.match(/(?<=^\[servers\.)\w+(?=\]$)/gm) ?? [];
  return ['gateway', ...names.filter((name) => name !== 'gateway')];
}

/** A mesh, running after `begin`. */
export class RunningMesh {
  private readonly services = services();
  /** The directory of its configuration, data and log. */
  readonly dir = mkdtempSync(join(tmpdir(), 'foundry-web-'));
  /** The ports of the services, then that of the admin listener. */
  protected ports: readonly number[] = [];
  private process: ChildProcess | undefined;

  protected constructor(private readonly options: MeshOptions) {}

  /** Starts it for the first time and waits until it is ready. */
  protected async begin(): Promise<this> {
    for (let attempt = 1; ; attempt += 1) {
      this.ports = await Promise.all(Array.from({ length: this.services.length + 1 }, freePort));
      try {
        await this.startAgain();
        return this;
      } catch (error) {
        // A port that was free a moment ago may have been taken by another mesh.
        if (attempt === ATTEMPTS || !this.logTail().includes('ADDRESS_UNAVAILABLE')) throw error;
        await this.remove();
        mkdirSync(this.dir);
      }
    }
  }

  /** Address of the page. */
  get url(): string {
    return `http://127.0.0.1:${this.port}`;
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

  /** Whether its process runs. */
  protected get running(): boolean {
    return this.process !== undefined && runs(this.process);
  }

  /** The end of its log, for failures. */
  logTail(): string {
    return readFileSync(join(this.dir, 'mesh.log'), 'utf8').split('\n').slice(-30).join('\n');
  }

  /** Starts it again after `kill` or `stop`, on the same ports and data. */
  async startAgain(): Promise<void> {
    this.process = await this.launch(['up'], this.ports);
  }

  /**
   * Starts a command of the binary that serves on these ports, and waits until the gateway's health check reports all
   * services as healthy.
   */
  protected async launch(command: readonly string[], ports: readonly number[]): Promise<ChildProcess> {
    const sets = this.services.map((name, i) => `servers.${name}.listen=127.0.0.1:${ports[i]}`);
    sets.push(`admin.listen=127.0.0.1:${ports[this.services.length]}`, ...(this.options.settings ?? []));
    const log = openSync(join(this.dir, 'mesh.log'), 'a');
    const child = spawn(this.options.program ?? binary(), [...command, ...sets.flatMap((s) => ['--set', s])], {
      env: this.environment(),
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    const late = Date.now() + READY_MS;
    for (; !(await serves(ports[0] ?? 0)); await new Promise((r) => setTimeout(r, 50))) {
      if (runs(child) && Date.now() <= late) continue;
      const why = runs(child) ? 'is not ready' : 'ended while starting';
      await end(child, 'SIGKILL');
      throw new Error(`the mesh ${why}\n${this.logTail()}`);
    }
    return child;
  }

  /** The environment of its processes, and of a CLI that calls it. */
  protected environment(): NodeJS.ProcessEnv {
    // Variables that control the tests must not configure the mesh.
    const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('FOUNDRY_'));
    return {
      ...Object.fromEntries(inherited),
      FOUNDRY_DATA_DIR: this.data,
      FOUNDRY_ADDRESS: this.url,
      XDG_CONFIG_HOME: join(this.dir, 'config'),
      ...this.options.env,
    };
  }

  /** Kills the process with -9. */
  async kill(): Promise<void> {
    if (this.process) await end(this.process, 'SIGKILL');
  }

  /** Stops it with SIGTERM. */
  async stop(): Promise<void> {
    if (this.process) await end(this.process, 'SIGTERM');
  }

  /** Removes the directory and ends what still runs in it: sandboxes outlive the mesh unless they were destroyed. */
  protected async remove(): Promise<void> {
    for (const until = Date.now() + STOP_MS; ; await new Promise((r) => setTimeout(r, 100))) {
      for (const pid of processesNaming(this.data)) {
        try {
          process.kill(pid, 'SIGKILL');
        } catch {
          // It has ended already.
        }
      }
      try {
        rmSync(this.dir, { recursive: true, force: true });
        return;
      } catch (error) {
        // Killed processes may still be writing, and processes that they started may begin only now.
        if (Date.now() > until) throw error;
      }
    }
  }
}

async function serves(port: number): Promise<boolean> {
  try {
    return (await fetch(`http://127.0.0.1:${port}/healthz`)).ok;
  } catch {
    return false;
  }
}

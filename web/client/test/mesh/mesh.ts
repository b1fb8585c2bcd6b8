import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { createWriteStream, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const PATIENCE_MS = 60_000;
/** How long what was killed may go on writing. */
const REMOVAL_MS = 30_000;

/** The binary under test. @throws when it is not named or not there: these tests are never skipped. */
function binary(): string {
  const path = process.env.FOUNDRY_BIN;
  if (!path || !existsSync(path)) {
    throw new Error(
      `FOUNDRY_BIN must name the built binary (cargo build -p foundry); it is ${path ? `${path}, which is missing` : 'not set'}`,
    );
  }
  return path;
}

/** A mesh in one process, with a data directory and ports of its own. */
export class Mesh {
  private readonly dir = mkdtempSync(join(tmpdir(), 'foundry-client-'));
  private process?: ChildProcess;

  private constructor(
    private readonly binary: string,
    private readonly ports: readonly number[],
  ) {}

  /** Starts a mesh and waits until it is ready. */
  static async start(): Promise<Mesh> {
    const mesh = new Mesh(binary(), await freePorts(6));
    await mesh.up();
    return mesh;
  }

  /** Port of the gateway. */
  get port(): number {
    return this.ports[0] ?? 0;
  }

  /** The secret that signs in. */
  get secret(): string {
    return readFileSync(join(this.data, 'auth/dev-sign-in.secret'), 'utf8').trim();
  }

  private get data(): string {
    return join(this.dir, 'data');
  }

  /** A repository to work on. */
  origin(): string {
    const path = join(this.dir, 'origin');
    mkdirSync(path);
    writeFileSync(join(path, 'README.md'), '# Origin\n');
    const names = ['-c', 'user.name=test', '-c', 'user.email=test@example.invalid', '-c', 'init.defaultBranch=main'];
    for (const args of [
      ['init', '-q'],
      ['add', '.'],
      ['commit', '-q', '-m', 'first'],
    ]) {
      const { status, stderr } = spawnSync('git', [...names, ...args], { cwd: path, encoding: 'utf8' });
      if (status !== 0) throw new Error(`git ${args.join(' ')}: ${stderr}`);
    }
    return path;
  }

  /** Starts the process. */
  async up(): Promise<void> {
    this.process = await this.started(['up'], this.ports);
  }

  /** Starts a gateway of its own before the services of this mesh. */
  async gateway(): Promise<Gateway> {
    const [port = 0] = await freePorts(1);
    const child = await this.started(['serve', 'gateway', '--set', 'admin.enabled=false'], [port, ...this.ports.slice(1)]);
    return new Gateway(port, child);
  }

  private async started(command: readonly string[], ports: readonly number[]): Promise<ChildProcess> {
    const services = ['gateway', 'auth', 'repo', 'provisioner', 'task'];
    const listen = services.map((name, i) => `servers.${name}.listen=127.0.0.1:${ports[i]}`);
    const settings = [...listen, `admin.listen=127.0.0.1:${ports[5]}`].flatMap((setting) => ['--set', setting]);
    const child = spawn(this.binary, [...command, ...settings], {
      env: {
        ...process.env,
        FOUNDRY_DATA_DIR: this.data,
        XDG_CONFIG_HOME: join(this.dir, 'config'),
        FOUNDRY_DEMO_AGENT_SECOND_MS: '50',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child.stderr?.pipe(createWriteStream(join(this.dir, 'up.log'), { flags: 'a' }));
    await this.ready(child);
    return child;
  }

  private ready(child: ChildProcess): Promise<void> {
    return new Promise((resolve, reject) => {
      const fail = (why: string) => reject(new Error(`the mesh ${why}\n${this.log()}`));
      const patience = setTimeout(() => fail('is not ready'), PATIENCE_MS);
      let said = '';
      child.stdout?.on('data', (chunk: Buffer) => {
        said += chunk.toString();
        if (!/^ready/m.test(said)) return;
        clearTimeout(patience);
        resolve();
      });
      child.once('exit', (code, signal) => {
        clearTimeout(patience);
        fail(`ended while starting: ${code ?? signal}`);
      });
    });
  }

  /** Ends the process: as a crash does, or in good order. */
  async down(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    if (this.process) await end(this.process, signal);
  }

  /** The end of its log. */
  log(): string {
    const path = join(this.dir, 'up.log');
    return existsSync(path) ? readFileSync(path, 'utf8').split('\n').slice(-40).join('\n') : '';
  }

  /** Ends everything that this mesh started, sandboxes too, and removes its directory. */
  async remove(): Promise<void> {
    await this.down('SIGKILL');
    for (const until = Date.now() + REMOVAL_MS; ; await new Promise((resolve) => setTimeout(resolve, 100))) {
      endAll(processesNaming(this.data));
      try {
        rmSync(this.dir, { recursive: true, force: true });
        return;
      } catch (error) {
        // What was killed may still be writing its last, and what it began may begin only now.
        if (Date.now() > until) throw error;
      }
    }
  }
}

/** A gateway in a process of its own. */
export class Gateway {
  constructor(
    readonly port: number,
    private readonly process: ChildProcess,
  ) {}

  /** Ends it in good order. */
  async stop(): Promise<void> {
    await end(this.process, 'SIGTERM');
  }
}

async function end(child: ChildProcess, signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.removeAllListeners('exit');
  const ended = once(child, 'exit');
  child.kill(signal);
  await ended;
}

function endAll(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It ended by itself meanwhile.
    }
  }
}

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

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((closed) => server.close(closed))));
  return ports;
}

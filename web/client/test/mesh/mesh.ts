import type { ChildProcess } from 'node:child_process';
import { end, freePort, makeOrigin, RunningMesh } from '@foundry/testing';

/** A mesh in one process, optionally with further gateways in front of it. */
export class Mesh extends RunningMesh {
  /** Starts a mesh and waits until it is ready. */
  static start(): Promise<Mesh> {
    return new Mesh({ env: { FOUNDRY_DEMO_AGENT_SECOND_MS: '50' } }).begin();
  }

  /** A repository to work on. */
  origin(): string {
    return makeOrigin(this.dir);
  }

  /** Starts a further gateway in front of the services of this mesh. */
  async gateway(): Promise<Gateway> {
    const port = await freePort();
    const child = await this.launch(['serve', 'gateway', '--set', 'admin.enabled=false'], [port, ...this.ports.slice(1)]);
    return new Gateway(port, child);
  }

  /** Ends everything that this mesh started, sandboxes too, and removes its directory. */
  async dispose(): Promise<void> {
    await this.kill();
    await this.remove();
  }
}

/** A gateway in a process of its own. */
export class Gateway {
  constructor(
    readonly port: number,
    private readonly process: ChildProcess,
  ) {}

  /** Stops it with SIGTERM. */
  async stop(): Promise<void> {
    await end(this.process, 'SIGTERM');
  }
}

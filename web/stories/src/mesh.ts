/** The mesh of a story, with a CLI. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { binary, RunningMesh } from '@foundry/testing';

/** How long sandboxes may take to end. */
const DESTROY_MS = 40_000;

/** The binary with the sandbox provider `fault`, next to the binary under test. */
function faultyBinary(): string {
  const path = join(dirname(binary()), 'foundry-with-faults');
  if (!existsSync(path)) throw new Error(`${path} is missing: run \`make build\``);
  return path;
}

/** Settings that make the provider `fault` the default for sandboxes. */
export const FAULT_BY_DEFAULT = ['provisioner.default_provider=fault', 'task.default_provider=fault'];

/** A running mesh. */
export class Mesh extends RunningMesh {
  /**
   * Starts a mesh and waits until it is ready; `settings` are `key=value` as for `--set`. With a directory of faults
   * it also has the sandbox provider `fault`, which is controlled by files in that directory.
   */
  static start(settings: readonly string[] = [], faults?: string): Promise<Mesh> {
    const env = { FOUNDRY_DEMO_AGENT_SECOND_MS: '200' };
    if (faults === undefined) return new Mesh({ settings, env }).begin();
    return new Mesh({
      program: faultyBinary(),
      settings: [...settings, 'task.providers=["local", "fault"]'],
      env: { ...env, FAULT_DIRECTORY: faults },
    }).begin();
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
      if (this.running) await this.destroySandboxes();
    } finally {
      await this.stop();
      await this.remove();
    }
  }

  /** Destroys all sandboxes and waits until they have ended: nothing would end those that outlive the mesh. */
  private async destroySandboxes(): Promise<void> {
    if (!existsSync(join(this.dir, 'config'))) return; // the CLI is not signed in; `remove` ends what runs
    const asked = new Set<string>();
    const until = Date.now() + DESTROY_MS;
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

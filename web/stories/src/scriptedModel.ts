/** A model that follows the script in its prompt, for real agents (`crates/scripted-model`). */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { binary, end } from '@foundry/testing';

/** A request that was answered. */
export interface Asked {
  readonly key: string | null;
  readonly body: unknown;
}

/** The program beside the binary under test. */
function program(): string {
  const path = join(dirname(binary()), 'foundry-scripted-model');
  if (!existsSync(path)) throw new Error(`${path} is missing: run \`make build\``);
  return path;
}

/** A running model, which speaks the APIs of all kinds of model providers. */
export class ScriptedModel {
  private constructor(
    private readonly child: ChildProcess,
    private readonly directory: string,
    /** Its base URL. */
    readonly url: string,
  ) {}

  /** Starts it on a free port. */
  static async start(): Promise<ScriptedModel> {
    // Not below the directory of a mesh: its log has the keys.
    const directory = mkdtempSync(join(tmpdir(), 'foundry-model-'));
    const child = spawn(program(), ['0', join(directory, 'log')], { stdio: ['ignore', 'pipe', 'inherit'] });
    for await (const line of createInterface({ input: child.stdout })) {
      const url = /http:\S+/.exec(line)?.[0];
      if (url !== undefined) return new ScriptedModel(child, directory, url);
    }
    throw new Error('the scripted model ended while starting');
  }

  /** The steps, one on each line, in the form in which it finds them in a prompt. */
  script(steps: string): string {
    return `<script>${steps}</script>`;
  }

  /** The requests that were answered, oldest first. */
  requests(): Asked[] {
    const lines = readFileSync(join(this.directory, 'log'), 'utf8').trim().split('\n');
    return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as Asked);
  }

  /** Ends it and removes what it has written. */
  async close(): Promise<void> {
    await end(this.child, 'SIGTERM');
    rmSync(this.directory, { recursive: true, force: true });
  }
}

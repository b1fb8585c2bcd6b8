/** A Git repository to work on. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

function git(cwd: string, ...args: string[]): void {
  const identity = {
    GIT_AUTHOR_NAME: 'Story',
    GIT_AUTHOR_EMAIL: 'story@example.org',
    GIT_COMMITTER_NAME: 'Story',
    GIT_COMMITTER_EMAIL: 'story@example.org',
  };
  const done = spawnSync('git', args, { cwd, encoding: 'utf8', env: { ...process.env, ...identity } });
  if (done.status !== 0) throw new Error(`git ${args.join(' ')}: ${done.stderr}`);
}

/** Makes a repository with a few files and two branches below `dir`; returns its path. */
export function makeOrigin(dir: string, name = 'orchard'): string {
  const path = join(dir, name);
  mkdirSync(join(path, 'src/parser'), { recursive: true });
  writeFileSync(join(path, 'README.md'), '# Orchard\n\nCounts apples.\n\n- fast\n- small\n');
  writeFileSync(join(path, 'src/greeting.txt'), 'Hello, orchard.\n');
  writeFileSync(
    join(path, 'src/parser/tree.ts'),
    Array.from({ length: 60 }, (_, i) => `export const branch${i} = ${i};`).join('\n') + '\n',
  );
  writeFileSync(join(path, 'logo.bin'), Buffer.from([0, 1, 2, 3, 0, 255]));
  git(path, 'init', '--quiet', '--initial-branch=main');
  git(path, 'add', '.');
  git(path, 'commit', '--quiet', '-m', 'Plant the orchard');
  git(path, 'branch', 'harvest');
  return path;
}

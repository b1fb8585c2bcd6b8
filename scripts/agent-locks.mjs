#!/usr/bin/env node
// Makes the lock files of the built-in agents and of their Node anew, from the exact versions in each package.json:
//
//   node scripts/agent-locks.mjs [DIRECTORY...]
//
// A lock names no registry, so that each user's own npm settings hold. It covers Linux on x64 and arm64 at once: npm
// keeps the packages of every platform. An optional package that the registry lacks would make `npm ci` refuse the
// lock, so what wants it is told not to; each such package is printed.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, copyFileSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const agents = join(root, 'crates/agents/locks');
const all = [...readdirSync(agents).map((name) => join(agents, name)), join(root, 'crates/tool-cache/locks/node')];

for (const directory of process.argv.length > 2 ? process.argv.slice(2) : all) {
  const work = mkdtempSync(join(tmpdir(), 'lock-'));
  copyFileSync(join(directory, 'package.json'), join(work, 'package.json'));
  const args = ['install', '--package-lock-only', '--omit-lockfile-registry-resolved', '--ignore-scripts'];
  execFileSync('npm', [...args, '--audit=false', '--fund=false', '--loglevel=error'], { cwd: work, stdio: 'inherit' });
  const lock = JSON.parse(readFileSync(join(work, 'package-lock.json'), 'utf8'));
  rmSync(work, { recursive: true });
  delete lock.name;

  const wanted = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'));
  const named = new Set(Object.keys(lock.packages).map((path) => path.replace(/^.*node_modules\//, '')));
  const lost = Object.keys({ ...wanted.dependencies, ...wanted.optionalDependencies }).filter((n) => !named.has(n));
  if (lost.length > 0) throw new Error(`${directory}: the registry has no ${lost.join(', ')} in that version`);
  for (const [path, item] of Object.entries(lock.packages)) {
    for (const optional of Object.keys(item.optionalDependencies ?? {}).filter((name) => !named.has(name))) {
      console.log(`${directory}: without ${optional} of ${path}`);
      delete item.optionalDependencies[optional];
    }
  }
  writeFileSync(join(directory, 'package-lock.json'), `${JSON.stringify(lock, null, 2)}\n`);
}

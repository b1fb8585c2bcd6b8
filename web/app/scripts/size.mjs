// Prints what the first screen loads, in kB of gzip, and fails above the limit. Run after a build.
import { readFileSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'

const LIMIT_KB = 300
const dist = join(dirname(fileURLToPath(import.meta.url)), '../dist')
const manifest = JSON.parse(readFileSync(join(dist, '../build/manifest.json'), 'utf8'))

/** Every file that the entry needs before the first screen: itself, its static imports, their styles, and the worker. */
function firstScreen() {
  const files = new Set(['index.html'])
  const visit = (key) => {
    const chunk = manifest[key]
    if (chunk === undefined || files.has(chunk.file)) return
    files.add(chunk.file)
    for (const style of chunk.css ?? []) files.add(style)
    for (const next of chunk.imports ?? []) visit(next)
    for (const [, worker] of read(chunk.file).toString().matchAll(/Worker\(new URL\([`"']([^`"']+)[`"']/g)) {
      // Relative to the root of the page or to the chunk, as the bundler chose.
      files.add(worker.startsWith('/') ? worker.slice(1) : posix.join(posix.dirname(chunk.file), worker))
    }
  }
  for (const [key, chunk] of Object.entries(manifest)) if (chunk.isEntry) visit(key)
  return [...files]
}

function read(file) {
  return readFileSync(join(dist, file))
}

const rows = firstScreen().map((file) => ({ file, gzip: gzipSync(read(file), { level: 9 }).length }))
for (const { file, gzip } of rows.sort((a, b) => b.gzip - a.gzip)) {
  console.log(`${(gzip / 1000).toFixed(1).padStart(8)} kB  ${file}`)
}
const total = rows.reduce((sum, row) => sum + row.gzip, 0) / 1000
console.log(`${total.toFixed(1).padStart(8)} kB  first screen in all, limit ${LIMIT_KB} kB (gzip)`)
if (total > LIMIT_KB) process.exitCode = 1

// Prints what the page loads in kB of gzip: before the start page and a task opened directly can be used, and what is
// loaded when it is looked at. Fonts are counted by themselves: they are loaded beside the scripts, are used only if they
// are here by then, and stay in the browser's cache. Fails above the limits. Run after a build.
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'

const LIMITS_KB = { start: 300, task: 340, fonts: 100 }
const TASK = 'src/task/index.ts'
const FORMATTING = 'src/ui/text/Markdown.tsx'
const CHANGES = 'src/task/panel/changes/Changes.tsx'
const dist = join(dirname(fileURLToPath(import.meta.url)), '../dist')
const manifest = JSON.parse(readFileSync(join(dist, '../build/manifest.json'), 'utf8'))

/** Every file that the chunks need before they run: themselves, their static imports, the styles and workers of these. */
function needed(keys, files = new Set(['index.html'])) {
  for (const key of keys) {
    const chunk = manifest[key]
    if (chunk === undefined) throw new Error(`the build has no ${key}`)
    if (files.has(chunk.file)) continue
    files.add(chunk.file)
    for (const style of chunk.css ?? []) files.add(style)
    for (const asset of chunk.assets ?? []) if (!isFont(asset)) files.add(asset)
    for (const worker of workers(chunk.file)) files.add(worker)
    needed(chunk.imports ?? [], files)
  }
  return files
}

function workers(file) {
  if (!file.endsWith('.js')) return []
  const urls = [
    ...read(file)
      .toString()
      .matchAll(/Worker\(new URL\([`"']([^`"']+)[`"']/g),
  ].map(([, url]) => url)
  // Relative to the root of the page or to the chunk, as the bundler chose.
  return urls.map((url) => (url.startsWith('/') ? url.slice(1) : posix.join(posix.dirname(file), url)))
}

function isFont(file) {
  return file.endsWith('.woff2')
}

function read(file) {
  return readFileSync(join(dist, file))
}

function size(file) {
  return gzipSync(read(file), { level: 9 }).length / 1000
}

/** Prints the files, largest first, and answers their sum. */
function list(files) {
  const rows = [...files].map((file) => ({ file, kb: size(file) })).sort((a, b) => b.kb - a.kb)
  for (const { file, kb } of rows) console.log(`${amount(kb)}  ${file}`)
  return rows.reduce((sum, { kb }) => sum + kb, 0)
}

function amount(kb) {
  return `${kb.toFixed(1).padStart(8)} kB`
}

function judge(kb, limit, what) {
  console.log(`${amount(kb)}  ${what}, limit ${limit} kB (gzip)\n`)
  if (kb > limit) process.exitCode = 1
}

function without(files, known) {
  return [...files].filter((file) => !known.has(file))
}

const entries = Object.keys(manifest).filter((key) => manifest[key].isEntry)
const start = needed(entries)
const startKb = list(start)
judge(startKb, LIMITS_KB.start, 'start page in all')

const task = needed([...entries, TASK])
judge(startKb + list(without(task, start)), LIMITS_KB.task, 'task opened directly in all: the above and that of the start page')

const fonts = readdirSync(join(dist, 'assets')).filter(isFont)
judge(list(fonts.map((name) => `assets/${name}`)), LIMITS_KB.fonts, 'fonts, beside the above and not counted in it')

console.log('Loaded when looked at, each with what the above has not:')
for (const key of Object.keys(manifest).filter((key) => manifest[key].isDynamicEntry && key !== TASK)) {
  const kb = without(needed([...entries, key]), task).reduce((sum, file) => sum + size(file), 0)
  console.log(`${amount(kb)}  ${key}`)
}
const usual = [...needed([...entries, TASK, FORMATTING, CHANGES])].reduce((sum, file) => sum + size(file), 0)
console.log(`${amount(usual)}  a task with words of its agent and its changes open, as on a wide screen, once all is there (gzip)`)

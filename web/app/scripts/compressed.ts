import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { brotliCompress, constants, gzip } from 'node:zlib'
import type { Plugin } from 'vite'

const COMPRESSED = /\.(?:js|css|svg)$/
const SMALLEST = 1024

/**
 * Writes `.gz` and `.br` siblings of every text asset of 1 KiB or more, for servers that send stored bytes. The page
 * itself is not compressed, because the server puts a nonce into each response.
 */
export function compressed(): Plugin {
  let outDir = 'dist'
  return {
    name: 'foundry:compressed',
    apply: 'build',
    configResolved(config) {
      outDir = config.build.outDir
    },
    async closeBundle(failure) {
      // There is nothing to compress, and that must not hide why.
      if (failure !== undefined) return
      const names = await readdir(outDir, { recursive: true })
      await Promise.all(names.filter((name) => COMPRESSED.test(name)).map((name) => writeSiblings(join(outDir, name))))
    },
  }
}

async function writeSiblings(path: string): Promise<void> {
  const bytes = await readFile(path)
  if (bytes.length < SMALLEST) return
  const params = { [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length }
  await Promise.all([
    promisify(gzip)(bytes, { level: 9 }).then((small) => writeFile(`${path}.gz`, small)),
    promisify(brotliCompress)(bytes, { params }).then((small) => writeFile(`${path}.br`, small)),
  ])
}

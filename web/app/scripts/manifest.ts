import { mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Plugin } from 'vite'

/**
 * Moves the manifest of the build out of the served directory, to `build/manifest.json`, where `npm run size` reads
 * it.
 */
export function manifestAside(): Plugin {
  let root = '.'
  let outDir = 'dist'
  return {
    name: 'foundry:manifest-aside',
    apply: 'build',
    configResolved(config) {
      root = config.root
      outDir = config.build.outDir
    },
    async closeBundle() {
      const made = join(root, outDir, '.vite')
      await mkdir(join(root, 'build'), { recursive: true })
      await rename(join(made, 'manifest.json'), join(root, 'build/manifest.json'))
      await rm(made, { recursive: true })
    },
  }
}

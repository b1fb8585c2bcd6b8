import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import type { Plugin } from 'vite'

const { resolve } = createRequire(import.meta.url)
const LICENSES = ['@fontsource-variable/inter/LICENSE', '@fontsource-variable/fira-code/LICENSE']

/**
 * Adds preload links for the fonts to the page, so that they load in parallel with the scripts, and their licenses to
 * the build.
 */
export function fonts(): Plugin {
  return {
    name: 'foundry:fonts',
    apply: 'build',
    async generateBundle() {
      const texts = await Promise.all(LICENSES.map((name) => readFile(resolve(name), 'utf8')))
      this.emitFile({ type: 'asset', fileName: 'fonts-license.txt', source: texts.join('\n\n') })
    },
    transformIndexHtml: {
      order: 'post',
      handler: (_, { bundle }) =>
        Object.keys(bundle ?? {})
          .filter((name) => name.endsWith('.woff2'))
          .map((name) => ({
            tag: 'link',
            attrs: { rel: 'preload', href: `/${name}`, as: 'font', type: 'font/woff2', crossorigin: true },
            injectTo: 'head' as const,
          })),
    },
  }
}

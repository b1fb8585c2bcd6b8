import react from '@vitejs/plugin-react'
import { defineConfig } from 'vitest/config'
import { compressed } from './scripts/compressed.ts'
import { fonts } from './scripts/fonts.ts'
import { manifestAside } from './scripts/manifest.ts'

// The page is served by the gateway from `dist`: hashed assets, no inline script, siblings in gzip and brotli.
export default defineConfig({
  plugins: [react(), compressed(), fonts(), manifestAside()],
  build: {
    target: 'es2022',
    // These know `light-dark()`; for older ones it would be rewritten to variables that nothing sets here.
    cssTarget: ['chrome123', 'firefox120', 'safari17.5'],
    outDir: 'dist',
    emptyOutDir: true,
    manifest: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
  },
  worker: { format: 'es' },
  test: {
    environment: 'happy-dom',
    pool: 'threads',
    projects: [
      // Without parts of the page: loading modules for each file again would take longer than the tests.
      { extends: true, test: { name: 'code', include: ['src/**/*.test.ts'], isolate: false } },
      { extends: true, test: { name: 'parts', include: ['src/**/*.test.tsx'] } },
    ],
    setupFiles: ['./src/test/setup.ts'],
    css: false,
    restoreMocks: true,
    testTimeout: 20_000,
    // Where nothing is laid out, a menu that opens has nothing to focus yet; the warning prints whole trees.
    onConsoleLog: (text) => (text.includes('use-focus-trap') ? false : undefined),
  },
})

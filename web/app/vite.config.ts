import react from '@vitejs/plugin-react'
import { defineConfig } from 'vitest/config'
import { compressed } from './scripts/compressed.ts'
import { fonts } from './scripts/fonts.ts'
import { manifestAside } from './scripts/manifest.ts'
import { smallProtobuf } from './scripts/protobuf.ts'

// The page is served by the gateway from `dist`: hashed assets, no inline script, siblings in gzip and brotli.
export default defineConfig({
  plugins: [react(), smallProtobuf(), compressed(), fonts(), manifestAside()],
  build: {
    target: 'es2022',
    // These browsers support `light-dark()`; for older ones the build would replace it by variables that nothing sets
    // here.
    cssTarget: ['chrome123', 'firefox120', 'safari17.5'],
    outDir: 'dist',
    emptyOutDir: true,
    manifest: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
  },
  worker: { format: 'es', plugins: () => [smallProtobuf()] },
  test: {
    environment: 'happy-dom',
    pool: 'threads',
    projects: [
      // Tests without components share their modules: loading them again for each file would take longer than the
      // tests.
      { extends: true, test: { name: 'code', include: ['src/**/*.test.ts'], isolate: false } },
      { extends: true, test: { name: 'parts', include: ['src/**/*.test.tsx'] } },
    ],
    setupFiles: ['./src/test/setup.ts'],
    css: false,
    restoreMocks: true,
    testTimeout: 20_000,
    // Without a layout, a menu that opens finds nothing to focus; the warning would print whole trees.
    onConsoleLog: (text) => (text.includes('use-focus-trap') ? false : undefined),
  },
})

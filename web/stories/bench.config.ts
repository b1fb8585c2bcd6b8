import { defineConfig } from 'vitest/config';

/** `make bench-web`: how soon the page is there and how much it loads; printed, never gated. */
export default defineConfig({
  test: {
    include: ['src/bench/*.bench.ts'],
    fileParallelism: false,
    testTimeout: 600_000,
    hookTimeout: 600_000,
    reporters: ['dot'],
    disableConsoleIntercept: true,
  },
});

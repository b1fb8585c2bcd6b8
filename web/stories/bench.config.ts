import { defineConfig } from 'vitest/config';

/** `make bench-web`: how fast the page becomes usable and how much it loads; printed, never a gate. */
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

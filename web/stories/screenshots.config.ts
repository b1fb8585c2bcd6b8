import { defineConfig } from 'vitest/config';

/** `make screenshots`: pictures of every page and state in `out`. */
export default defineConfig({
  test: {
    include: ['src/screenshots/*.shots.ts'],
    // One mesh and one browser at a time.
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 400_000,
    reporters: ['verbose'],
  },
});

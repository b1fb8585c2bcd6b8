import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['src/**/*.story.ts'],
    // Each file has a mesh and a browser of its own; one at a time keeps times comparable.
    fileParallelism: false,
    testTimeout: 180_000,
    hookTimeout: 120_000,
    reporters: ['verbose'],
  },
});

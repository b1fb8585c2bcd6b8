import { defineConfig } from 'vitest/config';

/** Stories that show where things are: also with the fonts of machines that the page does not reach with its own. */
const ABOUT_PLACES = ['still', 'hostile', 'workbench', 'phone'].map((name) => `src/${name}.story.ts`);

const shared = { testTimeout: 180_000, hookTimeout: 120_000 };

function withSystemFont(font: 'wide' | 'narrow') {
  const env = { FOUNDRY_STORY_FONT: font, FOUNDRY_STORY_PAGE_FONTS: 'refused' };
  return { test: { ...shared, name: `${font} system font`, include: ABOUT_PLACES, env } };
}

export default defineConfig({
  test: {
    // Each file has a mesh and a browser of its own; one at a time keeps times comparable.
    fileParallelism: false,
    reporters: ['verbose'],
    projects: [
      { test: { ...shared, name: 'page', include: ['src/**/*.story.ts'] } },
      withSystemFont('wide'),
      withSystemFont('narrow'),
    ],
  },
});

import { defineConfig } from 'vitest/config';

const stories = (...names: string[]) => names.map((name) => `src/${name}.story.ts`);

/**
 * Stories about positions on the screen: they also run with system fonts only, as where the page's own fonts do not
 * load.
 */
const ABOUT_PLACES = stories('still', 'hostile', 'workbench', 'phone');
/**
 * In a wide font, something in it moves now and then when other stories run beside it. It runs alone until that is
 * found.
 */
const UNSTEADY = stories('still');
/**
 * Stories that measure how long the page takes, the one with eight tabs, which uses the whole machine, and the one with a
 * real agent, whose packages the Rust tests fetch before: each alone, after all others; `make test` runs them at its end.
 */
const BY_THEMSELVES = stories('agent', 'checks', 'entries', 'flood', 'quick', 'tabs', 'webhook');

/**
 * Polls in stories that run beside others may take as long as a browser may wait: the default second is too short on
 * a busy machine.
 */
const shared = { testTimeout: 180_000, hookTimeout: 120_000, expect: { poll: { timeout: 30_000 } } };

const alone = { fileParallelism: false, sequence: { groupOrder: 1 }, expect: { poll: { timeout: 1_000 } } };

function withSystemFont(font: 'wide' | 'narrow') {
  return { FOUNDRY_STORY_FONT: font, FOUNDRY_STORY_PAGE_FONTS: 'refused' };
}

export default defineConfig({
  test: {
    // Each file has a mesh and a browser of its own, which wait for each other half of the time.
    maxWorkers: 2,
    reporters: ['verbose'],
    projects: [
      { test: { ...shared, name: 'page', include: ['src/**/*.story.ts'], exclude: BY_THEMSELVES } },
      { test: { ...shared, name: 'narrow system font', include: ABOUT_PLACES, env: withSystemFont('narrow') } },
      { test: { ...shared, name: 'wide system font', include: ABOUT_PLACES, exclude: UNSTEADY, env: withSystemFont('wide') } },
      { test: { ...shared, ...alone, name: 'alone', include: BY_THEMSELVES } },
      { test: { ...shared, ...alone, name: 'alone, wide system font', include: UNSTEADY, env: withSystemFont('wide') } },
    ],
  },
});

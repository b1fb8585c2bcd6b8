/** Conversations: running, asking, waiting, idle, failed. */
import type { Page } from 'playwright-core';
import type { Scene } from './studio';
import { still, talks, taskPath } from './taskPage';
import type { World } from './world';

function scroller(page: Page) {
  return page.getByRole('log', { name: 'Transcript' });
}

/** The session of a task in its states. */
export function conversationScenes(world: () => World): Scene[] {
  const path = taskPath(world);
  return [
    { name: 'task-streaming', path: path('streaming'), ready: async (page) => await talks(page, 'that was cut') },
    { name: 'task-tool-running', path: path('running'), ready: async (page) => await talks(page, /sleep 900/) },
    {
      name: 'task-permission',
      path: path('asking'),
      ready: async (page) => {
        await page.getByRole('region', { name: 'The agent is asking for permission' }).waitFor();
        await still(page);
      },
    },
    {
      name: 'task-queue',
      path: path('queued'),
      ready: async (page) => {
        await page.getByRole('region', { name: 'Queued messages' }).waitFor();
        await still(page);
      },
    },
    {
      name: 'task-queue-editing',
      path: path('queued'),
      ready: async (page) => {
        await page.getByRole('button', { name: 'Edit this message' }).nth(1).click();
        await page.getByRole('textbox', { name: 'Message text' }).waitFor();
      },
    },
    {
      name: 'task-queue-held',
      path: path('held'),
      ready: async (page) => {
        await page.getByText('paused after a stop').waitFor();
        await still(page);
      },
    },
    { name: 'task-long', path: path('long'), ready: async (page) => await talks(page, /the season is there/) },
    {
      name: 'task-long-above',
      path: path('long'),
      ready: async (page) => {
        await talks(page, /the season is there/);
        await scroller(page).evaluate((it) => it.scrollBy(0, -2000));
        await page.getByRole('button', { name: /latest/ }).waitFor();
      },
    },
    {
      name: 'task-long-start',
      path: path('long'),
      ready: async (page) => {
        await talks(page, /the season is there/);
        await scroller(page).evaluate((it) => it.scrollTo(0, 0));
        await scroller(page).getByText('What I found').first().waitFor();
        await page
          .getByRole('button', { name: /^Thought/ })
          .first()
          .click();
      },
    },
    {
      name: 'task-tool-opened',
      path: path('long'),
      ready: async (page) => {
        await talks(page, /the season is there/);
        await scroller(page)
          .getByRole('button', { name: /Write src/ })
          .last()
          .click();
      },
    },
    { name: 'task-troubled', path: path('troubled'), ready: async (page) => await talks(page, /interrupted|exited|Turn failed/i) },
    { name: 'task-hostile', path: path('hostile'), ready: async (page) => await talks(page, /Turn completed/) },
    {
      name: 'task-hostile-start',
      path: path('hostile'),
      ready: async (page) => {
        await talks(page, /Turn completed/);
        await scroller(page).evaluate((it) => it.scrollTo(0, 0));
      },
    },
    { name: 'task-sessions', path: path('sessions'), ready: async (page) => await talks(page, /Bob looked at it/) },
    {
      name: 'task-session-menu',
      path: path('sessions'),
      ready: async (page) => {
        await talks(page, /Bob looked at it/);
        await page
          .getByRole('button', { name: /session/i })
          .first()
          .click();
        await page.getByRole('menuitem').first().waitFor();
      },
    },
    {
      name: 'task-session-closed',
      path: path('sessions'),
      ready: async (page) => {
        await talks(page, /Bob looked at it/);
        await page
          .getByRole('button', { name: /session/i })
          .first()
          .click();
        await page.getByRole('menuitem', { name: /By columns/ }).click();
        await talks(page, /by columns/);
      },
    },
    {
      name: 'task-new-session',
      path: path('sessions'),
      ready: async (page) => {
        await talks(page, /Bob looked at it/);
        await page.getByRole('button', { name: 'New session' }).click();
        await page.getByRole('dialog').waitFor();
      },
    },
    {
      name: 'task-prompt',
      path: path('long'),
      ready: async (page) => {
        await talks(page, /the season is there/);
        await page.getByRole('button', { name: 'Show full prompt' }).click();
      },
    },
    {
      name: 'task-actions',
      path: path('unchanged'),
      ready: async (page) => {
        await talks(page, /nothing to change/);
        await page.getByRole('button', { name: 'More actions' }).click();
        await page.getByRole('menuitem', { name: 'Kill…' }).waitFor();
      },
    },
    {
      name: 'task-kill',
      path: path('unchanged'),
      ready: async (page) => {
        await talks(page, /nothing to change/);
        await page.getByRole('button', { name: 'More actions' }).click();
        await page.getByRole('menuitem', { name: 'Kill…' }).click();
        await page.getByRole('dialog').waitFor();
      },
    },
    {
      name: 'task-draft',
      path: path('unchanged'),
      ready: async (page) => {
        await talks(page, /nothing to change/);
        await page
          .getByRole('textbox', { name: 'Message', exact: true })
          .fill('And what about the second greeting?\nIt is in the other file, I believe.');
        await page.getByText('Draft saved').waitFor();
      },
      after: async (page) => {
        await page.getByRole('textbox', { name: 'Message', exact: true }).fill('');
      },
    },
  ];
}

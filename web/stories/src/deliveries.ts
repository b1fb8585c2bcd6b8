/** Deliveries of webhooks, as GitHub sends them. */
import { createHmac, randomUUID } from 'node:crypto';
import type { Page } from 'playwright-core';

/** A webhook as its host knows it. */
export interface Hook {
  readonly address: string;
  readonly secret: string;
}

/** Adds a webhook on the page of the repository that is shown, and copies what to enter at the host. */
export async function addHook(page: Page): Promise<Hook> {
  const section = page.getByRole('region', { name: 'Webhooks' });
  await section.getByRole('button', { name: 'Add webhook' }).click();
  await section.getByLabel('Software of the host').selectOption('GitHub');
  await section.getByRole('button', { name: 'Add webhook' }).click();
  await section.getByText('The secret is not shown again').waitFor();
  const after = async (name: string): Promise<string> =>
    await section.getByText(name, { exact: true }).locator('xpath=..').locator('bdi').innerText();
  const hook = { address: await after('Address'), secret: await after('Secret') };
  await section.getByRole('button', { name: 'Done' }).click();
  return hook;
}

/** Sends a delivery about a repository, signed with a secret; returns the status of the answer. */
export async function deliver(hook: Hook, event: string, repository: string, secret = hook.secret): Promise<number> {
  const body = JSON.stringify({ ref: 'refs/heads/main', action: 'completed', repository: { full_name: repository } });
  const answer = await fetch(hook.address, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'x-github-event': event,
      'x-github-delivery': randomUUID(),
      'x-hub-signature-256': `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`,
    },
    body,
  });
  await answer.arrayBuffer();
  return answer.status;
}

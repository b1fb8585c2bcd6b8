import { RepositoryWebhookForge } from '@foundry/client/gen/foundry/repo/v1/webhook_pb'

/** The software that hosts run, by its name. */
export const forges: Partial<Record<RepositoryWebhookForge, string>> = {
  [RepositoryWebhookForge.GITHUB]: 'GitHub',
  [RepositoryWebhookForge.GITLAB]: 'GitLab',
  [RepositoryWebhookForge.GITEA]: 'Gitea',
  [RepositoryWebhookForge.FORGEJO]: 'Forgejo',
}

/** What the name of a host says about its software. */
export function forgeOf(host: string): RepositoryWebhookForge {
  if (host.includes('gitlab')) return RepositoryWebhookForge.GITLAB
  if (host.includes('gitea')) return RepositoryWebhookForge.GITEA
  if (host.includes('forgejo') || host.includes('codeberg')) return RepositoryWebhookForge.FORGEJO
  return RepositoryWebhookForge.GITHUB
}

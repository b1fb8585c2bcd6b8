import type { Session } from '@foundry/client/gen/foundry/task/v1/task_pb'

/** Names given by the service; any other was given by a person. */
const BY_ITSELF = /^(main|session \d+)?$/

/** The title of a session: a person's name for it, otherwise the agent's title, otherwise the service's name. */
export function sessionTitle({ name, agentTitle }: Pick<Session, 'name' | 'agentTitle'>): string {
  if (agentTitle !== '' && BY_ITSELF.test(name)) return agentTitle
  return name === '' ? 'Session' : name
}

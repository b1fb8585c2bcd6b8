import type { Session } from '@foundry/client/gen/foundry/task/v1/task_pb'

/** Names that the service gives; any other was given by a person. */
const BY_ITSELF = /^(main|session \d+)?$/

/** What a session is called: as a person named it, else by the agent's title, else as the service named it. */
export function sessionTitle({ name, agentTitle }: Pick<Session, 'name' | 'agentTitle'>): string {
  if (agentTitle !== '' && BY_ITSELF.test(name)) return agentTitle
  return name === '' ? 'Session' : name
}

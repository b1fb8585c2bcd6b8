import type { Agent, Provider } from '@foundry/client/gen/foundry/provisioner/v1/provisioner_pb'

/** An entry of a select field. */
export interface Choice {
  readonly value: string
  readonly label: string
  readonly disabled: boolean
}

/** Agents to choose from; one that cannot be used says what is missing. */
export function agentChoices(agents: readonly Agent[]): Choice[] {
  return agents.map((agent) => ({
    value: agent.name,
    label: agent.available ? agent.displayName || agent.name : `${agent.displayName || agent.name} (${missing(agent)})`,
    disabled: !agent.available,
  }))
}

function missing({ missingCredentials }: Agent): string {
  return missingCredentials.length === 0 ? 'not available' : `needs ${missingCredentials.join(', ')}`
}

/** Sandbox providers to choose from; one that cannot be used says why. */
export function providerChoices(providers: readonly Provider[]): Choice[] {
  return providers.map((provider) => ({
    value: provider.name,
    label: provider.available ? provider.name : `${provider.name} (${provider.condition?.message || 'not available'})`,
    disabled: !provider.available,
  }))
}

/** The first entry that can be chosen; the services list their default first. */
export function firstUsable(choices: readonly Choice[]): string | null {
  return choices.find((it) => !it.disabled)?.value ?? null
}

/** Largest prompt, in bytes of UTF-8. */
export const PROMPT_LIMIT = 256 * 1024

/** Why a prompt cannot be sent; undefined when it can. */
export function promptProblem(prompt: string): string | undefined {
  if (prompt.trim() === '') return 'Say what should be done.'
  const size = new TextEncoder().encode(prompt).length
  return size > PROMPT_LIMIT ? `The prompt has ${Math.ceil(size / 1024)} KiB; at most ${PROMPT_LIMIT / 1024} KiB are taken.` : undefined
}

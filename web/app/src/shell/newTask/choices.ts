import { PermissionPolicy } from '@foundry/client/gen/foundry/common/v1/transcript_pb'
import type { AgentProfile, ModelProvider } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import type { Agent, Provider } from '@foundry/client/gen/foundry/provisioner/v1/provisioner_pb'
import { kindName } from '../../state/modelKinds'
import { visibleLine } from '../../ui/text/visible'

/** An entry of a select field. */
export interface Choice {
  readonly value: string
  readonly label: string
  readonly disabled: boolean
}

/** The agents to choose from, given these model providers; an unusable one has the reason in its label. */
export function agentChoices(agents: readonly Agent[], models: readonly ModelProvider[] = []): Choice[] {
  const kinds = new Set(models.map((it) => kindName(it.kind)))
  return agents.map((agent) => {
    const usable = agent.available || agent.missingCredentials.some((kind) => kinds.has(kind))
    const name = agent.displayName || agent.name
    return { value: agent.name, label: usable ? name : `${name} (${missing(agent)})`, disabled: !usable }
  })
}

function missing({ missingCredentials }: Agent): string {
  return missingCredentials.length === 0 ? 'not available' : `needs ${missingCredentials.join(', ')}`
}

const PROFILE = 'profile:'
const AGENT = 'agent:'

/** The agent that a value of the field for profiles and agents denotes; empty = that of the profile, or the default. */
export function agentOf(value: string | null): string {
  return value?.startsWith(AGENT) === true ? value.slice(AGENT.length) : ''
}

/** Profiles to choose from, each with its agent and model. */
export function profileChoices(profiles: readonly AgentProfile[]): Choice[] {
  return profiles.map(({ profileId, settings }) => {
    const what = [settings?.agent, settings?.model].filter((it) => it !== undefined && it !== '').join(', ')
    return { value: `${PROFILE}${profileId}`, label: visibleLine(`${settings?.name ?? ''} (${what})`), disabled: false }
  })
}

/** The same agents as values of the field for profiles and agents. */
export function asDoers(agents: readonly Choice[]): Choice[] {
  return agents.map((it) => ({ ...it, value: `${AGENT}${it.value}` }))
}

/** The profile of the task: the chosen one, or the default when nothing is chosen. */
export function profileOf(value: string | null, profiles: readonly AgentProfile[]): AgentProfile | undefined {
  return profiles.find((it) => (value === null ? it.settings?.isDefault === true : value === `${PROFILE}${it.profileId}`))
}

/** How permission requests are answered: as chosen, otherwise as the profile has it, otherwise by asking. */
export function policyOf(chosen: PermissionPolicy | null, profile: AgentProfile | undefined): PermissionPolicy {
  return chosen ?? (profile?.settings?.permissionPolicy || PermissionPolicy.ASK)
}

/** Sandbox providers to choose from; an unusable one has the reason in its label. */
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
  if (prompt.trim() === '') return 'Describe what should be done.'
  const size = new TextEncoder().encode(prompt).length
  return size > PROMPT_LIMIT ? `The prompt is ${Math.ceil(size / 1024)} KiB; the limit is ${PROMPT_LIMIT / 1024} KiB.` : undefined
}

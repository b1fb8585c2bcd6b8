import type { NamedValue } from '@foundry/client/gen/foundry/common/v1/secret_pb'
import type { AgentProfileSettings, CredentialStatus, ModelProvider } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { ModelProviderKind, ModelProviderSource } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { ModelTestResult, type TestModelProviderResponse } from '@foundry/client/gen/foundry/provisioner/v1/profile_service_pb'
import { IconAlertTriangleFilled, IconCircleCheck } from '@tabler/icons-react'
import { kindName } from '../state/modelKinds'
import type { Status } from '../ui'

/** A kind of model providers. */
export interface Kind {
  readonly kind: ModelProviderKind
  /** The usual URL; empty when a kind is served by many. */
  readonly url: string
  /** The API that it speaks, for people. */
  readonly text: string
}

/** The kinds to choose from. */
export const kinds: readonly Kind[] = [
  { kind: ModelProviderKind.ANTHROPIC, url: 'https://api.anthropic.com', text: 'Anthropic' },
  { kind: ModelProviderKind.OPENAI, url: 'https://api.openai.com/v1', text: 'OpenAI' },
  { kind: ModelProviderKind.GEMINI, url: 'https://generativelanguage.googleapis.com', text: 'Gemini' },
  { kind: ModelProviderKind.OPENAI_COMPATIBLE, url: '', text: 'OpenAI-compatible' },
]

const unknown: Kind = { kind: ModelProviderKind.UNSPECIFIED, url: '', text: 'Unknown kind' }

/** The entry of a kind. */
export function kindOf(kind: ModelProviderKind): Kind {
  return kinds.find((it) => it.kind === kind) ?? unknown
}

/** Whether a provider comes from the environment of the mesh, so that the page cannot change it. */
export function isOfEnvironment({ source }: ModelProvider): boolean {
  return source === ModelProviderSource.ENVIRONMENT
}

/** What is shown of a key: its end, or its source. */
export function keyText(provider: ModelProvider): string {
  const { credential } = provider
  if (credential?.hasKey !== true) return 'none'
  return isOfEnvironment(provider) ? 'from the environment' : ending(credential)
}

function ending({ lastFour }: CredentialStatus): string {
  return lastFour === '' ? 'set' : `…${lastFour}`
}

/** Why a name cannot be that of a model provider or profile; the service checks the rest. */
export function nameProblem(name: string): string | undefined {
  if (name.trim() === '') return 'A name is required.'
  if (/^[a-z0-9][a-z0-9._-]{0,63}$/.test(name.trim())) return undefined
  return 'Use up to 64 lowercase letters, digits, dashes, dots and underscores, starting with a letter or digit.'
}

/** Why a URL cannot be that of a model provider. */
export function addressProblem(url: string): string | undefined {
  if (url.trim() === '') return 'The URL is required.'
  if (!/^https?:\/\/[^\s/]/i.test(url.trim())) return 'The URL must start with https:// or http://.'
  if (!URL.canParse(url.trim())) return 'The URL is not valid.'
  const { username, password, search, hash } = new URL(url.trim())
  if (username !== '' || password !== '') return 'The URL must not contain a user name or password.'
  return search !== '' || hash !== '' ? 'The URL must not have a query or a fragment.' : undefined
}

/** Why a model provider cannot be added without a key: only servers at another than the usual URL may need none. */
export function keyProblem(kind: Kind, url: string, hasKey: boolean): string | undefined {
  return !hasKey && kind.url !== '' && url.trim().replace(/\/+$/, '') === kind.url ? 'The key is required.' : undefined
}

/** The model names in a text, each once. */
export function modelNames(text: string): string[] {
  return [...new Set(text.split(/[\s,]+/).filter((name) => name !== ''))]
}

const wrong: Partial<Record<ModelTestResult, string>> = {
  [ModelTestResult.NAME]: 'Host name',
  [ModelTestResult.HOST]: 'Host',
  [ModelTestResult.TLS]: 'TLS',
  [ModelTestResult.KEY]: 'Key',
  [ModelTestResult.MODEL]: 'Model',
  [ModelTestResult.QUOTA]: 'Quota',
  [ModelTestResult.API]: 'API',
  [ModelTestResult.FAILING]: 'Provider',
}

/** The result of a test in a word: the problem, or that it works. */
export function testStatus({ result }: TestModelProviderResponse): Status {
  if (result === ModelTestResult.OK) return { word: 'Works', tone: 'ok', icon: IconCircleCheck }
  return { word: wrong[result] ?? 'Unknown', tone: 'error', icon: IconAlertTriangleFilled }
}

/** The model providers that an agent can use; `takes` is the names of the kinds that it accepts. */
export function suitable(providers: readonly ModelProvider[], takes: readonly string[]): ModelProvider[] {
  return providers.filter((it) => takes.includes(kindName(it.kind)))
}

/** The names of the secrets that an agent gets and can read; the gateway adds those of MCP servers over HTTP. */
export function secretsInside({ environment, mcpServers }: AgentProfileSettings): string[] {
  const secrets = (list: readonly NamedValue[]) => list.filter((it) => it.content.case === 'secret').map((it) => it.name)
  const ofServers = mcpServers.flatMap(({ name, transport }) =>
    transport.case === 'stdio' ? secrets(transport.value.environment).map((it) => `${name}/${it}`) : [],
  )
  return [...secrets(environment), ...ofServers]
}

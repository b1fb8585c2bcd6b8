import { ModelProviderKind } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'

const names: Partial<Record<ModelProviderKind, string>> = {
  [ModelProviderKind.ANTHROPIC]: 'anthropic',
  [ModelProviderKind.OPENAI]: 'openai',
  [ModelProviderKind.OPENAI_COMPATIBLE]: 'openai-compatible',
  [ModelProviderKind.GEMINI]: 'gemini',
}

/** The name of a kind of model provider, as agents name the kinds that they accept; empty for an unknown one. */
export function kindName(kind: ModelProviderKind): string {
  return names[kind] ?? ''
}

import type { ModelProvider, ModelProviderKind } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { CredentialKind } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import type { Fields } from './draft'
import { entriesOf, entriesText, entryProblems, namedValues, sameHeader, type Entry } from './entries'
import { priceMessages, priceProblems, priceRows, pricesText, type Price } from './prices'
import type { Problems } from './useSettings'
import { addressProblem, keyProblem, keyText, kindOf, kinds, modelNames, nameProblem } from './words'

/** What a form holds of a key; the key itself is only in its field. */
interface KeyDraft {
  /** Description of the stored key. */
  readonly stored: string
  readonly isStoredBearer: boolean
  /** Whether the entered key is sent as a bearer token. */
  readonly isBearer: boolean
}

/** A model provider as a form holds it. */
export interface ProviderDraft {
  readonly name: string
  readonly kind: ModelProviderKind
  readonly baseUrl: string
  readonly credential: KeyDraft
  readonly models: string
  readonly headers: readonly Entry[]
  readonly prices: readonly Price[]
}

/** The initial content of a form: the stored provider, or an empty one. */
export function providerDraft(provider: ModelProvider | undefined): ProviderDraft {
  if (provider === undefined) {
    const kind = kinds[0]?.kind ?? 0
    const credential = { stored: 'none', isStoredBearer: false, isBearer: false }
    return { name: '', kind, baseUrl: kindOf(kind).url, credential, models: '', headers: [], prices: [] }
  }
  const { name, kind, baseUrl, models, headers, prices } = provider
  const isBearer = provider.credential?.kind === CredentialKind.BEARER
  return {
    name,
    kind,
    baseUrl,
    credential: { stored: keyText(provider), isStoredBearer: isBearer, isBearer },
    models: models.join(', '),
    headers: entriesOf('headers', headers),
    prices: priceRows(prices),
  }
}

/** The fields of a model provider. */
export const providerFields: Fields<ProviderDraft> = {
  name: { path: 'name', label: 'Name', text: (it) => it.trim() },
  kind: { path: 'kind', label: 'Kind', text: (it) => kindOf(it).text },
  baseUrl: { path: 'base_url', label: 'Base URL', text: (it) => it.trim() },
  credential: { path: 'credential', label: 'Key', text: (it) => it.stored },
  models: { path: 'models', label: 'Models', text: (it) => modelNames(it).join(', ') },
  headers: { path: 'headers', label: 'Headers', text: entriesText },
  prices: { path: 'prices', label: 'Prices', text: pricesText },
}

/** Problems of a model provider that is added or changed. */
export function providerProblems(draft: ProviderDraft, isNew: boolean, isGiven: (id: string) => boolean): Problems {
  const { credential } = draft
  const isOther = !isNew && credential.isBearer !== credential.isStoredBearer && !isGiven('credential')
  return {
    name: nameProblem(draft.name),
    url: addressProblem(draft.baseUrl),
    credential: isNew
      ? keyProblem(kindOf(draft.kind), draft.baseUrl, isGiven('credential'))
      : isOther
        ? 'Enter the key again to send it this way.'
        : undefined,
    ...entryProblems(draft.headers, isGiven, sameHeader),
    ...priceProblems(draft.prices),
  }
}

/** A model provider as it is sent. */
export function providerSettings(draft: ProviderDraft, secretOf: (id: string) => string) {
  const key = secretOf('credential')
  const way = draft.credential.isBearer ? ('bearer' as const) : ('key' as const)
  return {
    name: draft.name.trim(),
    kind: draft.kind,
    baseUrl: draft.baseUrl.trim(),
    credential: key === '' ? undefined : { secret: { case: way, value: { value: key } } },
    models: modelNames(draft.models),
    headers: namedValues(draft.headers, secretOf),
    prices: priceMessages(draft.prices),
  }
}

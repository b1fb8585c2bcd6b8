import { Checkbox, PasswordInput, Select, TextInput } from '@mantine/core'
import type { ModelProvider } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { useOrganization } from '../state/organization'
import { useProfileCalls } from '../state/profiles'
import { visibleLine } from '../ui/text/visible'
import { More } from './More'
import { NamedValues } from './NamedValues'
import { Prices } from './Prices'
import { providerDraft, providerFields, providerProblems, providerSettings, type ProviderDraft } from './providerSettings'
import { refusals } from './refusals'
import { plain, SettingsDialog } from './SettingsDialog'
import { useSettings, type Sent, type Settings } from './useSettings'
import { kindOf, kinds } from './words'

interface Props {
  /** The provider to change; undefined = one is added. */
  provider?: ModelProvider
  onClose: () => void
  onChanged: () => void
}

function useProvider({ provider, onClose, onChanged }: Props): Settings<ProviderDraft> {
  const calls = useProfileCalls()
  const { organizationId } = useOrganization()
  const modelProviderId = provider?.modelProviderId ?? ''
  const deed = provider === undefined ? 'added' : 'changed'
  const send = async ({ requestId, draft, paths, rev, secretOf }: Sent<ProviderDraft>) => {
    const settings = providerSettings(draft, secretOf)
    if (rev === undefined) return await calls.createModelProvider({ requestId, organizationId, settings })
    return await calls.updateModelProvider({ requestId, modelProviderId, expectedRev: rev, settings, updateMask: { paths } })
  }
  return useSettings<ProviderDraft, ModelProvider>({
    entity: provider,
    fields: providerFields,
    draftOf: providerDraft,
    problemsOf: (draft, isGiven) => providerProblems(draft, provider === undefined, isGiven),
    send,
    read: async () => (await calls.getModelProvider({ modelProviderId })).modelProvider,
    // A secret is sent only to the address that was shown when it was entered.
    mayKeepSecrets: (entered, now) => entered.baseUrl.trim() === now.baseUrl.trim(),
    words: { failed: `The model provider was not ${deed}`, done: `The model provider was ${deed}` },
    nameOf: (draft) => draft.name.trim(),
    onClose,
    onChanged,
  })
}

/** A form that adds a model provider or changes one. A stored key is never shown; an empty field keeps it. */
export function ModelProviderDialog(props: Props) {
  const { provider } = props
  const form = useProvider(props)
  const { draft, set, problems, secrets } = form
  const { at, rest } = refusals(form.error, ['name', 'kind', 'base_url', 'credential', 'models', 'headers', 'prices'])
  const isNew = provider === undefined
  return (
    <SettingsDialog
      title={isNew ? 'Add model provider' : `Change ${visibleLine(provider.name)}`}
      deed={isNew ? 'Add model provider' : 'Change model provider'}
      busy={form.busy}
      onSend={() => void form.submit()}
      onClose={props.onClose}
      error={rest}
      failed={`The model provider was not ${isNew ? 'added' : 'changed'}`}
      clashes={form.clashes}
    >
      {isNew && (
        <Select
          label="Kind"
          data={kinds.map((it) => ({ value: String(it.kind), label: it.text }))}
          value={String(draft.kind)}
          onChange={(it) => it !== null && set(ofKind(draft, Number(it)))}
          allowDeselect={false}
          error={at.kind}
        />
      )}
      <TextInput
        {...plain}
        label="Name"
        placeholder="work"
        data-autofocus
        value={draft.name}
        onChange={(event) => set({ name: event.currentTarget.value })}
        error={problems['name'] ?? at.name}
      />
      <TextInput
        {...plain}
        label="Base URL"
        placeholder="http://127.0.0.1:11434/v1"
        value={draft.baseUrl}
        onChange={(event) => set({ baseUrl: event.currentTarget.value })}
        error={problems['url'] ?? at.base_url}
      />
      <PasswordInput
        ref={secrets.field('credential')}
        label={isNew ? 'Key' : 'New key'}
        description={aboutKey(isNew, draft)}
        autoComplete="off"
        spellCheck={false}
        error={problems['credential'] ?? at.credential}
        visibilityToggleButtonProps={{ 'aria-label': 'Show the key' }}
      />
      <TextInput
        {...plain}
        label="Models (optional)"
        description="Allowed models, separated by commas. Leave empty to allow any model."
        value={draft.models}
        onChange={(event) => set({ models: event.currentTarget.value })}
        error={at.models}
      />
      <MoreFields form={form} headers={at.headers} prices={at.prices} />
    </SettingsDialog>
  )
}

function aboutKey(isNew: boolean, { credential }: ProviderDraft): string {
  if (isNew) return 'Stored encrypted and never shown again. A local model may not need one.'
  if (credential.stored === 'none') return 'No key is set. Stored encrypted and never shown.'
  return `Leave empty to keep the stored key (${credential.stored}). Enter it again if you change the URL to another server. Stored encrypted and never shown.`
}

/** Sets another kind, with its usual address unless a different one was entered. */
function ofKind({ kind, baseUrl }: ProviderDraft, now: number): Partial<ProviderDraft> {
  return baseUrl.trim() === kindOf(kind).url ? { kind: now, baseUrl: kindOf(now).url } : { kind: now }
}

/** Rarely used fields, with the service's errors about them. */
function MoreFields({ form, headers, prices }: { form: Settings<ProviderDraft>; headers?: string; prices?: string }) {
  const { draft, set, problems, secrets } = form
  const wrong = Object.entries(problems).some(([id, it]) => it !== undefined && /^(headers|prices)\//.test(id))
  const count = [draft.headers.length, draft.prices.length]
  return (
    <More
      title={`More: headers (${count[0]}), prices (${count[1]})`}
      problems={form.problems}
      wrong={wrong || headers !== undefined || prices !== undefined}
    >
      <NamedValues
        list="headers"
        title="Headers"
        one="Header"
        about="Added to each call. Secret values are stored encrypted and never shown. Everyone in the organization can read the others."
        placeholder="x-team"
        entries={draft.headers}
        onEntries={(headers) => set({ headers })}
        problems={problems}
        secrets={secrets}
        error={headers}
      />
      <Prices prices={draft.prices} onPrices={(prices) => set({ prices })} problems={problems} error={prices} />
      <Checkbox
        label="The key is a bearer token"
        description="For example from an OAuth sign-in. Sent as “authorization: Bearer …”"
        checked={draft.credential.isBearer}
        onChange={(event) => set({ credential: { ...draft.credential, isBearer: event.currentTarget.checked } })}
      />
    </More>
  )
}

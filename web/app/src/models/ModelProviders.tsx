import { Button, Group } from '@mantine/core'
import type { ModelProvider } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { ModelTestResult, type TestModelProviderResponse } from '@foundry/client/gen/foundry/provisioner/v1/profile_service_pb'
import { IconPencil, IconPlugConnected, IconTrash } from '@tabler/icons-react'
import { useState } from 'react'
import { useFrame } from '../shell/frame'
import { useCommand } from '../state/command'
import { useProfileCalls } from '../state/profiles'
import { RemovalDialog } from '../state/RemovalDialog'
import type { Read } from '../state/read'
import { visibleLine } from '../ui/text/visible'
import { useAlive } from '../ui/useAlive'
import { ErrorState, sentence, StatusBadge, useFocusBack } from '../ui'
import { entriesOf, entriesText } from './entries'
import { ModelProviderDialog } from './ModelProviderDialog'
import classes from './ModelsPage.module.css'
import { priceRows, pricesText } from './prices'
import { Fact, Section } from './Section'
import { isOfEnvironment, keyText, kindOf, testStatus } from './words'

/** The longest test at the service and some time for the transfer, in milliseconds. */
const TEST_MS = 30_000

/** The model providers of the organization, and those that the mesh has from its environment. */
export function ModelProviders({ read }: { read: Read<ModelProvider[]> }) {
  const [adds, setAdds] = useState(false)
  const [changes, setChanges] = useState<ModelProvider>()
  const [removes, setRemoves] = useState<ModelProvider>()
  useFocusBack(adds || changes !== undefined || removes !== undefined)
  return (
    <>
      <Section
        title="Model providers"
        about="Model API endpoints and their keys. The model gateway adds the key to the agents' calls."
        addLabel="Add model provider"
        onAdd={() => setAdds(true)}
        read={read}
        none="The demo agent works without one; other agents need one."
      >
        {(provider) => (
          <Row
            key={provider.modelProviderId}
            provider={provider}
            onChange={() => setChanges(provider)}
            onRemove={() => setRemoves(provider)}
          />
        )}
      </Section>
      {adds && <ModelProviderDialog onClose={() => setAdds(false)} onChanged={read.reload} />}
      {changes !== undefined && <ModelProviderDialog provider={changes} onClose={() => setChanges(undefined)} onChanged={read.reload} />}
      {removes !== undefined && <RemoveDialog provider={removes} onClose={() => setRemoves(undefined)} onRemoved={read.reload} />}
    </>
  )
}

function Row({ provider, onChange, onRemove }: { provider: ModelProvider; onChange: () => void; onRemove: () => void }) {
  const { canAdminister } = useFrame()
  const calls = useProfileCalls()
  const { modelProviderId } = provider
  const name = visibleLine(provider.name)
  const [found, setFound] = useState<TestModelProviderResponse>()
  const test = useCommand('The model provider was not tested', (_: string) =>
    calls.testModelProvider({ modelProviderId }, { timeoutMs: TEST_MS }),
  )
  const alive = useAlive()
  const run = async () => {
    setFound(undefined)
    const answer = await test.run()
    if (answer !== undefined && alive.current) setFound(answer)
  }
  return (
    <li className={classes.entry}>
      <div className={classes.line}>
        <div className={classes.name}>
          <bdi>{name}</bdi>
          <span className={classes.tag}>{kindOf(provider.kind).text}</span>
        </div>
        {canAdminister && (
          <Group gap="xs">
            <Button
              variant="default"
              leftSection={<IconPlugConnected size={14} />}
              onClick={() => void run()}
              loading={test.busy}
              aria-label={`Test ${name}`}
            >
              Test
            </Button>
            {!isOfEnvironment(provider) && (
              <Button variant="default" leftSection={<IconPencil size={14} />} onClick={onChange} aria-label={`Change ${name}`}>
                Change
              </Button>
            )}
            {!isOfEnvironment(provider) && (
              <Button variant="default" leftSection={<IconTrash size={14} />} onClick={onRemove} aria-label={`Remove ${name}`}>
                Remove
              </Button>
            )}
          </Group>
        )}
      </div>
      <dl className={classes.facts}>
        <Fact name="Base URL">
          <bdi className="fd-mono">{visibleLine(provider.baseUrl)}</bdi>
        </Fact>
        <Fact name="Key">{keyText(provider)}</Fact>
        <Fact name="Models">{provider.models.length === 0 ? 'any' : visibleLine(provider.models.join(', '))}</Fact>
        {provider.headers.length > 0 && <Fact name="Headers">{visibleLine(entriesText(entriesOf('headers', provider.headers)))}</Fact>}
        {provider.prices.length > 0 && (
          <Fact name="Prices">{visibleLine(`${pricesText(priceRows(provider.prices))} (per million tokens)`)}</Fact>
        )}
      </dl>
      <div role="status">{found !== undefined && <Found found={found} />}</div>
      {test.error !== undefined && <ErrorState error={test.error} title="The model provider was not tested" compact />}
    </li>
  )
}

function Found({ found }: { found: TestModelProviderResponse }) {
  const works = found.result === ModelTestResult.OK
  const model = found.model === '' ? '' : `${visibleLine(found.model)}, `
  return (
    <div className={classes.found} data-error={!works}>
      <StatusBadge status={testStatus(found)} size="xs" />
      <div>
        <p>
          {visibleLine(sentence(found.message))}{' '}
          <span className="fd-muted">
            ({model}
            {String(found.durationMillis)} ms)
          </span>
        </p>
        {found.nextAction !== '' && <p>{visibleLine(sentence(found.nextAction))}</p>}
      </div>
    </div>
  )
}

function RemoveDialog({ provider, onClose, onRemoved }: { provider: ModelProvider; onClose: () => void; onRemoved: () => void }) {
  const calls = useProfileCalls()
  const { modelProviderId } = provider
  const name = visibleLine(provider.name)
  return (
    <RemovalDialog
      title={`Remove ${name}?`}
      confirmLabel="Remove model provider"
      failed="The model provider was not removed"
      done="The model provider was removed"
      name={name}
      remove={(requestId) => calls.deleteModelProvider({ modelProviderId, requestId })}
      onClose={onClose}
      onRemoved={onRemoved}
    >
      Its key is deleted. Agents that use it fail at their next call.
    </RemovalDialog>
  )
}

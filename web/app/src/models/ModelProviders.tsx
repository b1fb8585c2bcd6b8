import { Button, Group } from '@mantine/core'
import type { ModelProvider } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { ModelTestResult, type TestModelProviderResponse } from '@foundry/client/gen/foundry/provisioner/v1/profile_service_pb'
import { IconPencil, IconPlugConnected, IconTrash } from '@tabler/icons-react'
import { useState } from 'react'
import { useFrame } from '../shell/frame'
import { useCommand } from '../state/command'
import { useProfileCalls } from '../state/profiles'
import type { Read } from '../state/read'
import { visibleLine } from '../task/text/visible'
import { useAlive } from '../task/model/useCommand'
import { ConfirmDialog, ErrorState, sentence, StatusBadge, toastDone, useFocusBack } from '../ui'
import { AddModelProviderDialog } from './AddModelProviderDialog'
import { ChangeModelProviderDialog } from './ChangeModelProviderDialog'
import classes from './ModelsPage.module.css'
import { Fact, Section } from './Section'
import { isOfEnvironment, keyText, kindOf, testStatus } from './words'

/** Longest test at the service, and some time for the way, in milliseconds. */
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
        about="Where models are served, with the key for it. A gateway adds the key to the calls of agents."
        addLabel="Add model provider"
        onAdd={() => setAdds(true)}
        read={read}
        none="The demo agent works without; other agents need one."
      >
        {(provider) => (
          <Row key={provider.modelProviderId} provider={provider} onChange={() => setChanges(provider)} onRemove={() => setRemoves(provider)} />
        )}
      </Section>
      {adds && <AddModelProviderDialog onClose={() => setAdds(false)} onAdded={read.again} />}
      {changes !== undefined && <ChangeModelProviderDialog provider={changes} onClose={() => setChanges(undefined)} onChanged={read.again} />}
      {removes !== undefined && <RemoveDialog provider={removes} onClose={() => setRemoves(undefined)} onRemoved={read.again} />}
    </>
  )
}

function Row({ provider, onChange, onRemove }: { provider: ModelProvider; onChange: () => void; onRemove: () => void }) {
  const { canAdminister } = useFrame()
  const calls = useProfileCalls()
  const { modelProviderId } = provider
  const name = visibleLine(provider.name)
  const [found, setFound] = useState<TestModelProviderResponse>()
  const test = useCommand(() => calls.testModelProvider({ modelProviderId }, { timeoutMs: TEST_MS }), 'The model provider was not tested')
  const alive = useAlive()
  const run = async () => {
    setFound(undefined)
    const answer = await test.run(undefined)
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
            <Button variant="default" leftSection={<IconPlugConnected size={14} />} onClick={() => void run()} loading={test.busy} aria-label={`Test ${name}`}>
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
        <Fact name="Address">
          <bdi className="fd-mono">{visibleLine(provider.baseUrl)}</bdi>
        </Fact>
        <Fact name="Key">{keyText(provider)}</Fact>
        <Fact name="Models">{provider.models.length === 0 ? 'any' : visibleLine(provider.models.join(', '))}</Fact>
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
          {visibleLine(sentence(found.message))} <span className="fd-muted">({model}{String(found.durationMillis)} ms)</span>
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
  const remove = useCommand((_: undefined, requestId) => calls.deleteModelProvider({ modelProviderId, requestId }), 'The model provider was not removed')
  const alive = useAlive()
  const confirm = async () => {
    if ((await remove.run(undefined)) === undefined) return
    toastDone('The model provider was removed', name)
    onRemoved()
    if (alive.current) onClose()
  }
  return (
    <ConfirmDialog
      opened
      onClose={onClose}
      onConfirm={() => void confirm()}
      title={`Remove ${name}?`}
      confirmLabel="Remove model provider"
      dangerous
      busy={remove.busy}
      error={remove.error}
    >
      Its key is forgotten. Agents that use it lose their model at the next call.
    </ConfirmDialog>
  )
}

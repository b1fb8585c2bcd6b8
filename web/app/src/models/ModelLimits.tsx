import { Button, Group, Modal, Select, Stack, TextInput } from '@mantine/core'
import { ModelLimitScope, ModelLimitUnit, type ModelLimit } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { IconTrash } from '@tabler/icons-react'
import { useState, type FormEvent } from 'react'
import { useFrame } from '../shell/frame'
import { useCommand } from '../state/command'
import { useOrganization } from '../state/organization'
import { useProfileCalls } from '../state/profiles'
import type { Read } from '../state/read'
import { visibleLine } from '../task/text/visible'
import { useAlive } from '../task/model/useCommand'
import { ErrorState, toastDone, useFocusBack } from '../ui'
import { amountOf, amountText, isOfEachTask, whose } from './amounts'
import classes from './ModelsPage.module.css'
import { Fact, Section } from './Section'

/** How much of models may be used, with what is used of it. */
export function ModelLimits({ read }: { read: Read<ModelLimit[]> }) {
  const [sets, setSets] = useState(false)
  useFocusBack(sets)
  return (
    <>
      <Section
        title="Limits"
        about="A call of an agent is refused before the provider is asked once a limit is used up. The organization's are counted in each calendar month (UTC), those of tasks from their beginning on."
        addLabel="Set a limit"
        onAdd={() => setSets(true)}
        read={read}
        none="Tokens and cost are counted, and nothing limits them."
      >
        {(limit) => <Row key={`${limit.scope}/${limit.taskId}/${limit.unit}`} limit={limit} onRemoved={read.again} />}
      </Section>
      {sets && <SetDialog onClose={() => setSets(false)} onSet={read.again} />}
    </>
  )
}

function Row({ limit, onRemoved }: { limit: ModelLimit; onRemoved: () => void }) {
  const { canAdminister } = useFrame()
  const { organizationId } = useOrganization()
  const calls = useProfileCalls()
  const { scope, taskId, unit } = limit
  const of = visibleLine(whose(limit))
  const remove = useCommand((_: undefined, requestId) => calls.setModelLimit({ requestId, organizationId, scope, taskId, unit, maximum: 0n }), 'The limit was not removed')
  const run = async () => {
    if ((await remove.run(undefined)) !== undefined) onRemoved()
  }
  return (
    <li className={classes.entry}>
      <div className={classes.line}>
        <div className={classes.name}>
          <bdi>{of}</bdi>
        </div>
        {canAdminister && (
          <Button variant="default" leftSection={<IconTrash size={14} />} onClick={() => void run()} loading={remove.busy} aria-label={`Remove the limit: ${of}, ${amountText(unit, limit.maximum)}`}>
            Remove
          </Button>
        )}
      </div>
      <dl className={classes.facts}>
        <Fact name="Limit">{amountText(unit, limit.maximum)}</Fact>
        {!isOfEachTask(limit) && <Fact name="Used">{`${amountText(unit, limit.used)}${limit.used >= limit.maximum ? ', used up' : ''}`}</Fact>}
      </dl>
      {remove.error !== undefined && <ErrorState error={remove.error} title="The limit was not removed" compact />}
    </li>
  )
}

const scopes = [
  { value: String(ModelLimitScope.ORGANIZATION), label: 'The organization, each month' },
  { value: String(ModelLimitScope.TASK), label: 'Each task' },
]
const units = [
  { value: String(ModelLimitUnit.TOKENS), label: 'Tokens' },
  { value: String(ModelLimitUnit.MICROS), label: 'US dollars, as far as prices are known' },
]

function SetDialog({ onClose, onSet }: { onClose: () => void; onSet: () => void }) {
  const calls = useProfileCalls()
  const { organizationId } = useOrganization()
  const [scope, setScope] = useState<ModelLimitScope>(ModelLimitScope.ORGANIZATION)
  const [unit, setUnit] = useState<ModelLimitUnit>(ModelLimitUnit.TOKENS)
  const [text, setText] = useState('')
  const [problem, setProblem] = useState<string>()
  const alive = useAlive()
  const set = useCommand(
    (limit: { scope: ModelLimitScope; unit: ModelLimitUnit; maximum: bigint }, requestId) => calls.setModelLimit({ requestId, organizationId, taskId: '', ...limit }),
    'The limit was not set',
  )
  const send = async (event: FormEvent) => {
    event.preventDefault()
    if (set.busy) return
    const maximum = amountOf(unit, text)
    const isNone = maximum === undefined || maximum === 0n
    setProblem(isNone ? 'A number above 0, for example 5000000 tokens or 12.50 dollars.' : undefined)
    if (isNone || (await set.run({ scope, unit, maximum })) === undefined) return
    toastDone('The limit was set', amountText(unit, maximum))
    onSet()
    if (alive.current) onClose()
  }
  return (
    <Modal opened onClose={onClose} title="Set a limit">
      <form onSubmit={(event) => void send(event)}>
        <Stack gap="sm">
          <Select label="Of" data={scopes} value={String(scope)} onChange={(value) => setScope(Number(value))} allowDeselect={false} />
          <Select label="Counts" data={units} value={String(unit)} onChange={(value) => setUnit(Number(value))} allowDeselect={false} />
          <TextInput label="At most" value={text} onChange={(event) => setText(event.currentTarget.value)} error={problem} inputMode="decimal" data-autofocus />
          {set.error !== undefined && <ErrorState error={set.error} title="The limit was not set" compact />}
          <Group justify="flex-end" gap="xs">
            <Button variant="default" onClick={onClose}>
              Cancel
            </Button>
            <Button type="submit" loading={set.busy}>
              Set limit
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  )
}

import { Button, Select, TextInput } from '@mantine/core'
import { ModelLimitScope, ModelLimitUnit, type ModelLimit } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { IconTrash } from '@tabler/icons-react'
import { useState } from 'react'
import { useFrame } from '../shell/frame'
import { useCommand } from '../state/command'
import { useOrganization } from '../state/organization'
import { useProfileCalls } from '../state/profiles'
import type { Read } from '../state/read'
import { visibleLine } from '../ui/text/visible'
import { useAlive } from '../ui/useAlive'
import { ErrorState, toastDone, useFocusBack } from '../ui'
import { amountOf, amountText, isOfEachTask, whose } from './amounts'
import classes from './ModelsPage.module.css'
import { Fact, Section } from './Section'
import { SettingsDialog } from './SettingsDialog'

/** Limits on the use of models, with what has been used. */
export function ModelLimits({ read }: { read: Read<ModelLimit[]> }) {
  const [sets, setSets] = useState(false)
  useFocusBack(sets)
  return (
    <>
      <Section
        title="Limits"
        about="Once a limit is reached, calls are rejected before they are sent to the provider. Limits of the organization apply per calendar month (UTC), limits of tasks over the lifetime of each task."
        addLabel="Set a limit"
        onAdd={() => setSets(true)}
        read={read}
        none="Tokens and cost are counted but not limited."
      >
        {(limit) => <Row key={`${limit.scope}/${limit.taskId}/${limit.unit}`} limit={limit} onRemoved={read.reload} />}
      </Section>
      {sets && <SetDialog onClose={() => setSets(false)} onSet={read.reload} />}
    </>
  )
}

function Row({ limit, onRemoved }: { limit: ModelLimit; onRemoved: () => void }) {
  const { canAdminister } = useFrame()
  const { organizationId } = useOrganization()
  const calls = useProfileCalls()
  const { scope, taskId, unit } = limit
  const of = visibleLine(whose(limit))
  const remove = useCommand('The limit was not removed', (requestId: string) =>
    calls.setModelLimit({ requestId, organizationId, scope, taskId, unit, maximum: 0n }),
  )
  const run = async () => {
    if ((await remove.run()) !== undefined) onRemoved()
  }
  return (
    <li className={classes.entry}>
      <div className={classes.line}>
        <div className={classes.name}>
          <bdi>{of}</bdi>
        </div>
        {canAdminister && (
          <Button
            variant="default"
            leftSection={<IconTrash size={14} />}
            onClick={() => void run()}
            loading={remove.busy}
            aria-label={`Remove the limit: ${of}, ${amountText(unit, limit.maximum)}`}
          >
            Remove
          </Button>
        )}
      </div>
      <dl className={classes.facts}>
        <Fact name="Limit">{amountText(unit, limit.maximum)}</Fact>
        {!isOfEachTask(limit) && (
          <Fact name="Used">{`${amountText(unit, limit.used)}${limit.used >= limit.maximum ? ', limit reached' : ''}`}</Fact>
        )}
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
  { value: String(ModelLimitUnit.MICROS), label: 'US dollars (models with a known price)' },
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
    'The limit was not set',
    (requestId: string, limit: { scope: ModelLimitScope; unit: ModelLimitUnit; maximum: bigint }) =>
      calls.setModelLimit({ requestId, organizationId, taskId: '', ...limit }),
  )
  const send = async () => {
    const maximum = amountOf(unit, text)
    const isNone = maximum === undefined || maximum === 0n
    setProblem(isNone ? 'Enter a number above 0, for example 5000000 tokens or 12.50 dollars.' : undefined)
    if (isNone || (await set.run({ scope, unit, maximum })) === undefined) return
    toastDone('The limit was set', amountText(unit, maximum))
    onSet()
    if (alive.current) onClose()
  }
  return (
    <SettingsDialog
      title="Set a limit"
      deed="Set limit"
      busy={set.busy}
      onSend={() => void send()}
      onClose={onClose}
      error={set.error}
      failed="The limit was not set"
    >
      <Select label="Applies to" data={scopes} value={String(scope)} onChange={(value) => setScope(Number(value))} allowDeselect={false} />
      <Select label="Unit" data={units} value={String(unit)} onChange={(value) => setUnit(Number(value))} allowDeselect={false} />
      <TextInput
        label="Limit"
        value={text}
        onChange={(event) => setText(event.currentTarget.value)}
        error={problem}
        inputMode="decimal"
        data-autofocus
      />
    </SettingsDialog>
  )
}

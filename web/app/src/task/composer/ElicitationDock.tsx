import { Button, Checkbox, Group, NativeSelect, Textarea, TextInput } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import {
  ElicitationAction,
  ElicitationFieldKind as Kind,
  type ElicitationField,
  type ElicitationRequest,
} from '@foundry/client/gen/foundry/common/v1/elicitation_pb'
import { IconForms } from '@tabler/icons-react'
import { useState } from 'react'
import { announce } from '../../ui'
import { useCommand } from '../../state/command'
import { visible, visibleLine } from '../../ui/text/visible'
import classes from './composer.module.css'
import { Answered, Dock } from './Dock'
import own from './options.module.css'

interface Props {
  sessionId: string
  request: ElicitationRequest
  /** Whether the person may answer. */
  canEdit: boolean
}

/** The values by field. */
type Filled = Readonly<Record<string, readonly string[]>>

/** The agent's form. */
export default function ElicitationDock({ sessionId, request, canEdit }: Props) {
  const client = useFoundry()
  const { elicitationId, fields } = request
  const [filled, setFilled] = useState<Filled>(() => Object.fromEntries(fields.map((field) => [field.name, initially(field)])))
  const answer = useCommand('The answer was not sent', (requestId: string, action: ElicitationAction, values: Filled) =>
    client.task.respondToElicitation({
      requestId,
      sessionId,
      elicitationId,
      action,
      values: Object.entries(values).map(([name, each]) => ({ name, values: [...each] })),
    }),
  )
  // After an answer, the form stays disabled until the watch shows the answer.
  const [answered, setAnswered] = useState(false)
  const [missing, setMissing] = useState<string | undefined>(undefined)
  const done = answered || answer.busy
  const give = async (action: ElicitationAction, values: Filled) => {
    if (!answered && (await answer.run(action, values)) !== undefined) setAnswered(true)
  }
  const send = () => {
    const empty = fields.find((field) => field.required && (filled[field.name] ?? []).every((it) => it === ''))
    setMissing(empty?.name)
    if (empty !== undefined) return announce(`${labelOf(empty)} is required`)
    // Empty fields are not part of the answer.
    void give(ElicitationAction.ACCEPT, Object.fromEntries(Object.entries(filled).filter(([, each]) => each.some((it) => it !== ''))))
  }
  return (
    <Dock
      title="The agent is asking a question"
      icon={IconForms}
      question={{ id: elicitationId, text: request.message }}
      what={
        <div className={classes.dockWhat} dir="auto">
          {visible(request.message)}
        </div>
      }
      error={answer.error}
      canEdit={canEdit}
    >
      <form
        aria-label="Answer to the agent"
        noValidate
        onSubmit={(event) => {
          event.preventDefault()
          send()
        }}
      >
        <div className={own.fields}>
          {fields.map((field) => (
            <Field
              key={field.name}
              field={field}
              values={filled[field.name] ?? []}
              problem={missing === field.name ? 'This field is required' : undefined}
              disabled={done}
              onChange={(values) => setFilled((before) => ({ ...before, [field.name]: values }))}
            />
          ))}
        </div>
        <div className={classes.answers}>
          <Button type="submit" disabled={done} loading={answer.busy}>
            Send answer
          </Button>
          <Button variant="default" disabled={done} onClick={() => void give(ElicitationAction.DECLINE, {})}>
            Decline
          </Button>
          {answered && <Answered />}
        </div>
      </form>
    </Dock>
  )
}

function initially(field: ElicitationField): readonly string[] {
  if (field.defaultValues.length > 0) return field.defaultValues
  return field.kind === Kind.BOOLEAN && field.required ? ['false'] : []
}

function labelOf(field: ElicitationField): string {
  return visibleLine(field.title === '' ? field.name : field.title)
}

interface FieldProps {
  field: ElicitationField
  values: readonly string[]
  problem: string | undefined
  disabled: boolean
  onChange: (values: readonly string[]) => void
}

function Field({ field, values, problem, disabled, onChange }: FieldProps) {
  const [value = ''] = values
  const common = {
    label: labelOf(field),
    description: field.description === '' ? undefined : visible(field.description),
    required: field.required,
    error: problem,
    disabled,
  }
  const choices = field.choices.map((each) => ({ value: each.value, label: visibleLine(each.name === '' ? each.value : each.name) }))
  switch (field.kind) {
    case Kind.BOOLEAN:
      return <Checkbox {...common} checked={value === 'true'} onChange={(event) => onChange([String(event.currentTarget.checked)])} />
    case Kind.CHOICE:
      return (
        <NativeSelect
          {...common}
          data={value === '' || !field.required ? [{ value: '', label: '—' }, ...choices] : choices}
          value={value}
          onChange={(event) => onChange(event.currentTarget.value === '' ? [] : [event.currentTarget.value])}
        />
      )
    case Kind.CHOICES:
      return (
        <Checkbox.Group {...common} value={[...values]} onChange={(next) => onChange(next)}>
          <Group gap="md" mt={4}>
            {choices.map((each) => (
              <Checkbox key={each.value} value={each.value} label={each.label} disabled={disabled} />
            ))}
          </Group>
        </Checkbox.Group>
      )
    case Kind.NUMBER:
    case Kind.INTEGER:
      return (
        <TextInput
          {...common}
          inputMode={field.kind === Kind.INTEGER ? 'numeric' : 'decimal'}
          placeholder={bounds(field)}
          value={value}
          onChange={(event) => onChange(event.currentTarget.value === '' ? [] : [event.currentTarget.value])}
        />
      )
    default:
      return (
        <Textarea
          {...common}
          autosize
          minRows={1}
          maxRows={5}
          dir="auto"
          value={value}
          onChange={(event) => onChange(event.currentTarget.value === '' ? [] : [event.currentTarget.value])}
        />
      )
  }
}

/** The range of a number, for people. */
function bounds({ minimum, maximum }: ElicitationField): string | undefined {
  if (minimum !== undefined && maximum !== undefined) return `${minimum} to ${maximum}`
  if (minimum !== undefined) return `${minimum} or more`
  return maximum === undefined ? undefined : `${maximum} or less`
}

import { Button } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { IconCheck, IconHandStop, IconX } from '@tabler/icons-react'
import type { PermissionOption, PermissionRequest } from '@foundry/client/gen/foundry/common/v1/transcript_pb'
import { useState, type KeyboardEvent } from 'react'
import { Kbd } from '../../ui'
import { useCommand } from '../../state/command'
import { InertLine } from '../../ui/text/Inert'
import classes from './composer.module.css'
import { Answered, Dock } from './Dock'

interface Props {
  sessionId: string
  request: PermissionRequest
  /** Whether the person may answer. */
  canEdit: boolean
}

/** The agent's permission request with a button for each option; the keys 1 to 9 press them. */
export function PermissionDock({ sessionId, request, canEdit }: Props) {
  const client = useFoundry()
  const { permissionId } = request
  const answer = useCommand('The answer was not sent', (requestId: string, optionId: string) =>
    client.task.respondToPermission({ requestId, sessionId, permissionId, optionId }),
  )
  // After an answer, the buttons stay disabled until the watch shows the answer.
  const [answered, setAnswered] = useState(false)
  const pick = async (optionId: string) => {
    if (!answered && (await answer.run(optionId)) !== undefined) setAnswered(true)
  }
  const done = answered || answer.busy
  const keys = (event: KeyboardEvent) => {
    const option = request.options[Number(event.key) - 1]
    if (!canEdit || option === undefined || event.ctrlKey || event.metaKey || event.altKey) return
    event.preventDefault()
    void pick(option.optionId)
  }
  return (
    <Dock
      title="The agent is asking for permission"
      icon={IconHandStop}
      question={{ id: permissionId, text: request.title }}
      what={<InertLine text={request.title} className={classes.dockWhat} />}
      error={answer.error}
      canEdit={canEdit}
      onKeyDown={keys}
    >
      <div className={classes.answers}>
        {request.options.map((option, at) => (
          <Answer key={option.optionId} option={option} number={at + 1} busy={done} onPick={() => void pick(option.optionId)} />
        ))}
        <Button variant="subtle" color="gray" disabled={done} onClick={() => void pick('')}>
          Cancel
        </Button>
        {answered && <Answered />}
      </div>
    </Dock>
  )
}

function Answer(props: { option: PermissionOption; number: number; busy: boolean; onPick: () => void }) {
  const { option, number, busy, onPick } = props
  const allows = option.kind.startsWith('allow')
  const rejects = option.kind.startsWith('reject')
  const once = option.kind === 'allow_once'
  const icon = allows ? <IconCheck size={14} /> : rejects ? <IconX size={14} /> : undefined
  return (
    <Button
      variant={once ? 'filled' : 'default'}
      disabled={busy}
      leftSection={icon}
      onClick={onPick}
      rightSection={number <= 9 ? <Kbd keys={String(number)} /> : undefined}
    >
      <InertLine text={option.name === '' ? option.optionId : option.name} />
    </Button>
  )
}

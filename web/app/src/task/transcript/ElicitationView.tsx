import { ElicitationAction, ElicitationFieldKind, type ElicitationField } from '@foundry/client/gen/foundry/common/v1/elicitation_pb'
import { IconCheck, IconForms, IconX } from '@tabler/icons-react'
import { usePersonName } from '../model/members'
import { InertLine } from '../../ui/text/Inert'
import type { ElicitationBlock } from './blocks'
import type { BlockContext } from './context'
import classes from './transcript.module.css'

/** A form of the agent with its answer. The fields are below the transcript, where they stay visible. */
export function ElicitationView({ block, context }: { block: ElicitationBlock; context: BlockContext }) {
  const { request, answer } = block
  const person = usePersonName(answer?.userId ?? '', context.viewer)
  const accepted = answer?.action === ElicitationAction.ACCEPT
  const pending = answer === undefined && request.elicitationId === context.pendingElicitation
  const tone = pending ? 'wait' : accepted ? 'ok' : 'quiet'
  const Glyph = answer === undefined ? IconForms : accepted ? IconCheck : IconX
  return (
    <div role="group" className={classes.permission} data-tone={tone} aria-label="Question from the agent">
      <Glyph size={15} aria-hidden className={classes.permissionIcon} />
      <div>
        <div className={classes.permissionTitle}>
          <InertLine text={request.message === '' ? 'The agent is asking a question' : request.message} />
        </div>
        {accepted &&
          answer.values.map((value) => {
            const field = request.fields.find((each) => each.name === value.name)
            return (
              <div key={value.name} className={classes.permissionAnswer}>
                <InertLine text={`${titleOf(field, value.name)}: ${value.values.map((it) => wordOf(field, it)).join(', ')}`} />
              </div>
            )
          })}
        <div className={classes.permissionAnswer}>
          {answer === undefined ? (
            pending ? (
              'Waiting for an answer below'
            ) : (
              'Not answered'
            )
          ) : (
            <>
              {accepted ? 'Answered' : 'Declined'} · {person}
            </>
          )}
        </div>
      </div>
    </div>
  )
}

function titleOf(field: ElicitationField | undefined, name: string): string {
  return field === undefined || field.title === '' ? name : field.title
}

function wordOf(field: ElicitationField | undefined, value: string): string {
  if (field?.kind === ElicitationFieldKind.BOOLEAN) return value === 'true' ? 'yes' : 'no'
  const choice = field?.choices.find((each) => each.value === value)
  return choice === undefined || choice.name === '' ? value : choice.name
}

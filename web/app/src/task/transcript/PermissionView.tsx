import { IconCheck, IconHandStop, IconX } from '@tabler/icons-react'
import { usePersonName } from '../model/members'
import { InertLine } from '../../ui/text/Inert'
import type { PermissionBlock } from './blocks'
import type { BlockContext } from './context'
import classes from './transcript.module.css'

/** A permission request of the agent with its answer. The buttons are below the transcript, where they stay visible. */
export function PermissionView({ block, context }: { block: PermissionBlock; context: BlockContext }) {
  const { request, answer } = block
  const person = usePersonName(answer?.userId ?? '', context.viewer)
  const option = request.options.find((each) => each.optionId === answer?.optionId)
  const allowed = option?.kind.startsWith('allow') === true
  const pending = answer === undefined && request.permissionId === context.pendingPermission
  const tone = pending ? 'wait' : allowed ? 'ok' : 'quiet'
  const Glyph = answer === undefined ? IconHandStop : allowed ? IconCheck : IconX
  return (
    <div role="group" className={classes.permission} data-tone={tone} aria-label="Permission request">
      <Glyph size={15} aria-hidden className={classes.permissionIcon} />
      <div>
        <div className={classes.permissionTitle}>
          <InertLine text={request.title === '' ? 'The agent is asking for permission' : request.title} />
        </div>
        <div className={classes.permissionAnswer}>
          {answer === undefined ? (
            pending ? (
              'Waiting for an answer below'
            ) : (
              'Not answered'
            )
          ) : (
            <>
              {answer.optionId === '' ? 'Cancelled' : <InertLine text={option?.name ?? answer.optionId} />}
              {' · '}
              {answer.userId === '' ? 'by the permission policy' : person}
            </>
          )}
        </div>
      </div>
    </div>
  )
}

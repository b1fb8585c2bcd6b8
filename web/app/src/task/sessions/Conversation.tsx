import { useFoundry } from '@foundry/client/react'
import type { Condition } from '@foundry/client/gen/foundry/common/v1/common_pb'
import type { AgentCommand } from '@foundry/client/gen/foundry/common/v1/offer_pb'
import { SessionState, type Session, type Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useMemo, useRef, type KeyboardEvent } from 'react'
import { ErrorState, lazyPart, StaleBanner, useShortcuts } from '../../ui'
import { IconLock } from '@tabler/icons-react'
import { Composer } from '../composer/Composer'
import { PermissionDock } from '../composer/PermissionDock'
import { OptionBar } from '../composer/OptionBar'
import { Queue } from '../composer/Queue'
import { useEchoes } from '../composer/useEchoes'
import { isEnded } from '../header/Actions'
import { ConditionLine, saysSomething } from '../header/ConditionLine'
import { isProvisioning } from '../header/StageList'
import type { Command } from '../../state/command'
import type { Viewer } from '../model/useViewer'
import type { BlockContext } from '../transcript/context'
import { FormattingMissing } from '../../ui/text/Formatted'
import { TranscriptView } from '../transcript/TranscriptView'
import { useConversation } from '../transcript/useConversation'
import { useMarkRead } from './useMarkRead'
import { useStop } from './useStop'
import classes from './sessions.module.css'

const ElicitationDock = lazyPart("The agent's question could not be loaded", null, () =>
  import('../composer/ElicitationDock').then((it) => it.default),
)

interface Props {
  task: Task
  session: Session
  viewer: Viewer
  /** Offset up to which the person has read. */
  readMark: number
}

/** A session: its transcript, the queue, and the composer. Use it with a `key` of the session. */
export function Conversation({ task, session: known, viewer, readMark }: Props) {
  const client = useFoundry()
  const conversation = useConversation(known.sessionId, known.lastOffset)
  const session = conversation.session ?? known
  const running = session.state === SessionState.RUNNING
  const stop = useStop(session.sessionId, running)
  const markSeen = useMarkRead(session.sessionId, readMark)
  const { echoes, send, sent } = useEchoes(conversation.rev)
  const pending = session.pendingPermission
  const form = session.pendingElicitation
  const context = useMemo<BlockContext>(
    () => ({ viewer, agent: session.agent, pendingPermission: pending?.permissionId ?? '', pendingElicitation: form?.elicitationId ?? '' }),
    [viewer, session.agent, pending?.permissionId, form?.elicitationId],
  )
  const here = useRef<HTMLDivElement>(null)
  const go = (to: string) => () => here.current?.querySelector<HTMLElement>(to)?.focus()
  useShortcuts('Conversation', [
    { keys: 'g m', label: 'Write a message', run: go('form[aria-label="New message"] textarea') },
    { keys: 'g q', label: "Go to the agent's question", run: go(QUESTION) },
  ])
  const keys = (event: KeyboardEvent) => {
    if (event.key !== 'Escape' || event.defaultPrevented || event.nativeEvent.isComposing || !running || !viewer.canEdit) return
    event.preventDefault()
    void stop.run()
  }
  if (conversation.phase === 'ended' && conversation.transcript.length === 0) {
    return (
      <div className={classes.ended}>
        <ErrorState error={conversation.error} title="The session could not be loaded" onRetry={() => client.reconnectNow()} />
      </div>
    )
  }
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: handles keys that bubble up from its fields
    <div ref={here} className={classes.conversation} onKeyDown={keys}>
      <StaleBanner phase={conversation.phase} since={conversation.since} />
      {conversation.phase === 'ended' && (
        <ErrorState error={conversation.error} title="Live updates of the session stopped" compact onRetry={() => client.reconnectNow()} />
      )}
      <FormattingMissing />
      <TranscriptView
        conversation={conversation}
        context={context}
        streaming={running && pending === undefined && form === undefined}
        onNewestSeen={markSeen}
      />
      <div className={classes.foot}>
        {tellsOfItself(task, session) && <ConditionLine condition={session.condition} />}
        {pending !== undefined && (
          <PermissionDock key={pending.permissionId} sessionId={session.sessionId} request={pending} canEdit={viewer.canEdit} />
        )}
        {form !== undefined && (
          <ElicitationDock key={form.elicitationId} sessionId={session.sessionId} request={form} canEdit={viewer.canEdit} />
        )}
        <Queue session={session} queue={conversation.queue} echoes={echoes} canEdit={viewer.canEdit} />
        <Foot task={task} session={session} viewer={viewer} running={running} stop={stop} onSend={send} onSent={sent} />
      </div>
    </div>
  )
}

/** The commands of an agent without any. */
const none: readonly AgentCommand[] = []

/** The elements by which the agent's question can be answered. */
const QUESTION = [
  'section[aria-label="The agent is asking for permission"] button',
  'section[aria-label="The agent is asking a question"] :is(input, select, textarea, button)',
].join()

/** Conditions that come from calls to a model provider; they are shown while the agent runs or is idle. */
const OF_MODELS = /^MODEL_/

/** Whether a session has a condition that the stages of its task do not show already. */
function tellsOfItself(task: Task, session: Session): session is Session & { condition: Condition } {
  const { condition } = session
  if (!saysSomething(condition)) return false
  const works = session.state === SessionState.RUNNING || session.state === SessionState.IDLE
  if (works && !OF_MODELS.test(condition.reason)) return false
  return !(isProvisioning(task) && condition.message === task.condition?.message && condition.reason === task.condition.reason)
}

interface FootProps {
  task: Task
  session: Session
  viewer: Viewer
  running: boolean
  stop: Command<[], unknown>
  onSend: React.ComponentProps<typeof Composer>['onSend']
  onSent: React.ComponentProps<typeof Composer>['onSent']
}

/** The composer, or the reason why there is none. */
function Foot({ task, session, viewer, running, stop, onSend, onSent }: FootProps) {
  const reason = !viewer.canEdit
    ? 'Viewers can read this conversation; only members can write.'
    : isEnded(task)
      ? 'This task has ended. Its conversations and changes stay readable.'
      : session.state === SessionState.CLOSED
        ? 'This session is closed. Its transcript stays readable.'
        : undefined
  if (reason !== undefined) {
    return (
      <div className={classes.readOnly}>
        <IconLock size={14} aria-hidden /> {reason}
      </div>
    )
  }
  return (
    <>
      {stop.error !== undefined && <ErrorState error={stop.error} title="The turn was not stopped" compact />}
      <Composer
        organizationId={task.organizationId}
        sessionId={session.sessionId}
        untouched={session.lastOffset === 0n}
        commands={session.options?.commands ?? none}
        running={running}
        stopping={stop.busy}
        onStop={stop.run}
        onSend={onSend}
        onSent={onSent}
      />
      <OptionBar sessionId={session.sessionId} options={session.options} usage={session.usage} canEdit={viewer.canEdit} />
    </>
  )
}

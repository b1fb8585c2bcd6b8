import {
  IconAlertTriangle,
  IconClockPause,
  IconGauge,
  IconInfoCircle,
  IconPaperclip,
  IconPlugConnectedX,
  IconRefreshAlert,
  type Icon,
} from '@tabler/icons-react'
import { NoticeKind } from '@foundry/client/gen/foundry/common/v1/transcript_pb'
import { sentence } from '../../ui'
import { InertLine } from '../../ui/text/Inert'
import type { NoticeBlock } from './blocks'
import classes from './transcript.module.css'

const kinds: Readonly<Partial<Record<NoticeKind, { word: string; icon: Icon; tone: 'wait' | 'quiet' }>>> = {
  [NoticeKind.EVENTS_LOST]: { word: 'Events lost', icon: IconAlertTriangle, tone: 'wait' },
  [NoticeKind.CONTEXT_REBUILT]: { word: 'Context rebuilt', icon: IconRefreshAlert, tone: 'wait' },
  [NoticeKind.AGENT_EXITED]: { word: 'Agent exited', icon: IconPlugConnectedX, tone: 'wait' },
  [NoticeKind.QUESTION_DECLINED]: { word: 'Question declined', icon: IconInfoCircle, tone: 'quiet' },
  [NoticeKind.SETTING_REFUSED]: { word: 'Setting rejected', icon: IconAlertTriangle, tone: 'wait' },
  [NoticeKind.LIMIT_REACHED]: { word: 'Limit reached', icon: IconGauge, tone: 'wait' },
  [NoticeKind.ATTACHMENT]: { word: 'Attachment', icon: IconPaperclip, tone: 'wait' },
  [NoticeKind.MODEL_WAIT]: { word: 'Waiting for the model', icon: IconClockPause, tone: 'quiet' },
  [NoticeKind.UNKNOWN_EVENT]: { word: 'Unknown event', icon: IconInfoCircle, tone: 'quiet' },
}
const unknown = { word: 'Notice', icon: IconInfoCircle, tone: 'quiet' } as const

/** A notice about the conversation itself. */
export function NoticeView({ block }: { block: NoticeBlock }) {
  const kind = kinds[block.notice.kind] ?? unknown
  const Glyph = kind.icon
  return (
    <div role="group" className={classes.notice} data-tone={kind.tone} aria-label={kind.word}>
      <Glyph size={15} aria-hidden className={classes.noticeIcon} />
      <div>
        <strong>{kind.word}.</strong> <InertLine text={sentence(block.notice.message)} />
      </div>
    </div>
  )
}

import { IconAlertTriangleFilled, IconHandStop, IconPlayerStop, IconPlugConnectedX, type Icon } from '@tabler/icons-react'
import { TurnOutcome } from '@foundry/client/gen/foundry/common/v1/transcript_pb'
import { RelativeTime, sentence } from '../../ui'
import { InertLine } from '../../ui/text/Inert'
import type { TurnEndBlock } from './blocks'
import classes from './transcript.module.css'

interface Outcome {
  readonly word: string
  readonly tone: 'quiet' | 'wait' | 'error'
  readonly icon?: Icon
}

const outcomes: Readonly<Partial<Record<TurnOutcome, Outcome>>> = {
  [TurnOutcome.COMPLETED]: { word: 'Turn completed', tone: 'quiet' },
  [TurnOutcome.CANCELLED]: { word: 'Turn stopped', tone: 'quiet', icon: IconPlayerStop },
  [TurnOutcome.INTERRUPTED]: { word: 'Turn interrupted', tone: 'wait', icon: IconPlugConnectedX },
  [TurnOutcome.ERROR]: { word: 'Turn failed', tone: 'error', icon: IconAlertTriangleFilled },
  [TurnOutcome.REFUSED]: { word: 'The agent refused', tone: 'wait', icon: IconHandStop },
}
const unknown: Outcome = { word: 'Turn ended', tone: 'quiet' }

/** How a turn ended, and why when it did not go well. */
export function TurnEndView({ block }: { block: TurnEndBlock }) {
  const { end } = block
  const outcome = outcomes[end.outcome] ?? unknown
  const Glyph = outcome.icon
  const plain = end.message === '' && end.reason === ''
  const line = (
    <>
      {Glyph !== undefined && <Glyph size={14} aria-hidden />}
      {outcome.word}
      <RelativeTime time={block.at || undefined} ago />
    </>
  )
  if (plain) return <div className={classes.turnEnd}>{line}</div>
  return (
    <div role="group" className={classes.turnTrouble} data-tone={outcome.tone} aria-label={outcome.word}>
      <div className={classes.turnTroubleHead}>{line}</div>
      {end.message !== '' && <InertLine text={sentence(end.message)} />}
      {end.reason !== '' && <code className={classes.reason}>{end.reason}</code>}
    </div>
  )
}

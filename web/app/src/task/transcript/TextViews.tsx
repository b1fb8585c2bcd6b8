import { IconBulb, IconChevronRight } from '@tabler/icons-react'
import { StoredFiles } from '../../attachments'
import { RelativeTime } from '../../ui'
import { usePersonName } from '../model/members'
import { usePlace } from '../model/usePlace'
import type { Viewer } from '../model/useViewer'
import { Formatted } from '../../ui/text/Formatted'
import { InertLine, InertText } from '../../ui/text/Inert'
import { SHOWN_FIRST } from '../../ui/text/limits'
import { LongText } from '../../ui/text/LongText'
import { StreamingMarkdown, usePaced } from '../../ui/text/StreamingMarkdown'
import { goTo } from '../panel/review/goTo'
import { reviewParts, type ReviewPart } from '../panel/review/message'
import type { TextBlock } from './blocks'
import { useOpened } from './opened'
import classes from './transcript.module.css'

/** Shows that a block begins on an older page. */
export function CutStart({ block }: { block: { cutStart: boolean } }) {
  return block.cutStart ? <div className={classes.cutStart}>… continued from above</div> : null
}

/** A message of a person, as it was written. */
export function UserView({ block, viewer }: { block: TextBlock; viewer: Viewer }) {
  const name = usePersonName(block.userId, viewer) || 'Message'
  return (
    <article className={classes.user} aria-label={`Message from ${name}`}>
      <header className={classes.byline}>
        <span className={classes.author}>{name}</span>
        <RelativeTime time={block.at || undefined} ago />
      </header>
      <CutStart block={block} />
      <Words text={block.text} />
      <StoredFiles files={block.attachments} label="Files of this message" />
    </article>
  )
}

/** The text of a message; in a review, its places lead to the changes. */
function Words({ text }: { text: string }) {
  if (text.length > SHOWN_FIRST) return <LongText text={text} label="Message" />
  const parts = reviewParts(text)
  return parts === undefined ? <InertText text={text} /> : <ReviewMessage parts={parts} />
}

function ReviewMessage({ parts }: { parts: readonly ReviewPart[] }) {
  const place = usePlace()
  return parts.map((part, at) =>
    part.kind === 'words' ? (
      <InertText key={at} text={part.text} />
    ) : (
      <button
        key={at}
        type="button"
        className={classes.place}
        onClick={() => {
          place.choose('panel', 'changes')
          goTo(part.path, part.old, part.line)
        }}
      >
        <InertLine text={part.text} />
      </button>
    ),
  )
}

/** A message of the agent. */
export function AgentView({ block, agent, streaming }: { block: TextBlock; agent: string; streaming: boolean }) {
  return (
    <article className={classes.agent} aria-label={`Message from the agent ${agent}`} aria-busy={streaming}>
      <CutStart block={block} />
      {streaming ? (
        <StreamingMarkdown text={block.text} label="Message from the agent" />
      ) : (
        <Formatted text={block.text} label="Message from the agent" />
      )}
    </article>
  )
}

/** A thought of the agent; folded by default. */
export function ThoughtView({ block, streaming }: { block: TextBlock; streaming: boolean }) {
  const [chosen, setOpen] = useOpened(block.key)
  const open = chosen === true
  const text = usePaced(block.text, streaming ? 100 : 0)
  return (
    <section className={classes.thought}>
      <button type="button" className={classes.fold} aria-expanded={open} onClick={() => setOpen(!open)}>
        <IconChevronRight size={14} aria-hidden className={classes.chevron} data-open={open} />
        <IconBulb size={14} aria-hidden />
        {streaming ? 'Thinking…' : 'Thought'}
        {!open && <InertLine text={firstLine(text)} className={classes.foldPreview} />}
      </button>
      {open && (
        <div className={classes.thoughtText}>
          <CutStart block={block} />
          {text.length > SHOWN_FIRST ? <LongText text={text} label="Thought" /> : <InertText text={text} />}
        </div>
      )}
    </section>
  )
}

function firstLine(text: string): string {
  return (
    text
      .slice(0, 160)
      .split('\n')
      .find((each) => each.trim() !== '') ?? ''
  )
}

import { Button } from '@mantine/core'
import { IconArrowDown } from '@tabler/icons-react'
import { useVirtualizer } from '@tanstack/react-virtual'
import { useCallback, useEffect, useRef, useState, type RefObject } from 'react'
import { ErrorState, TextSkeleton } from '../../ui'
import { counted } from '../../ui/text/size'
import { BlockView } from './BlockView'
import type { BlockContext } from './context'
import { OpenedContext } from './opened'
import classes from './transcript.module.css'
import type { Conversation } from './useConversation'

interface Props {
  conversation: Conversation
  context: BlockContext
  /** Whether the last block is still growing. */
  streaming: boolean
  /** Called when the newest entry is on the screen. */
  onNewestSeen: (offset: number) => void
}

/** Distance from the end that still counts as the end, in pixels. */
const AT_END = 48
/** Distance from the start at which older entries are loaded, in pixels. */
const NEAR_START = 400

/** The conversation: follows new text while its end is on the screen, and keeps its position otherwise. */
export function TranscriptView({ conversation, context, streaming, onNewestSeen }: Props) {
  const { transcript, version, older } = conversation
  const scroller = useRef<HTMLDivElement>(null)
  const [atEnd, setAtEnd] = useState(true)
  const [opened] = useState(() => new Map<string, boolean>())
  // With a new function, the list would measure all rows again at every rendering.
  const keyAt = useCallback((index: number) => transcript.keyAt(index), [transcript])
  const rows = useVirtualizer({
    count: transcript.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => 72,
    getItemKey: keyAt,
    overscan: 6,
    paddingStart: 16,
    paddingEnd: 20,
    anchorTo: 'end',
    followOnAppend: true,
    scrollEndThreshold: AT_END,
    initialRect: { width: 800, height: 600 },
  })
  const unseen = useUnseen(transcript.length, transcript.last, atEnd)
  useEffect(() => {
    if (atEnd && transcript.last > 0) onNewestSeen(transcript.last)
  }, [atEnd, transcript.last, version, onNewestSeen])
  useStartAtEnd(transcript.length, () => rows.scrollToEnd())
  useEndKept(scroller, atEnd, () => rows.scrollToEnd())

  const look = () => {
    const at = scroller.current
    if (at === null) return
    setAtEnd(at.scrollHeight - at.scrollTop - at.clientHeight <= AT_END)
    if (at.scrollTop < NEAR_START && older.exists && !older.loading && older.error === undefined) older.load()
  }
  return (
    <div className={classes.frame}>
      <div ref={scroller} className={classes.scroller} onScroll={look} tabIndex={0} role="log" aria-label="Transcript" aria-live="off">
        <Older older={older} />
        <div className={classes.canvas} style={{ height: rows.getTotalSize() }}>
          <OpenedContext.Provider value={opened}>
            {rows.getVirtualItems().map((row) => {
              const block = transcript.at(row.index)
              if (block === undefined) return null
              return (
                <div
                  key={row.key}
                  ref={rows.measureElement}
                  data-index={row.index}
                  className={classes.row}
                  style={{ transform: `translateY(${row.start}px)` }}
                >
                  <BlockView block={block} context={context} streaming={streaming && row.index === transcript.length - 1} />
                </div>
              )
            })}
          </OpenedContext.Provider>
        </div>
        {transcript.length === 0 && conversation.queue.length === 0 && <Nothing conversation={conversation} />}
      </div>
      {!atEnd && transcript.length > 0 && (
        <Button
          className={classes.jump}
          variant="default"
          radius="xl"
          rightSection={<IconArrowDown size={14} />}
          onClick={() => rows.scrollToEnd()}
        >
          {unseen === 0 ? 'Jump to latest' : `${counted(unseen, 'new entry', 'new entries')}, jump to latest`}
        </Button>
      )}
    </div>
  )
}

function Older({ older }: { older: Conversation['older'] }) {
  if (older.error !== undefined) {
    return (
      <div className={classes.older}>
        <ErrorState error={older.error} title="Older entries could not be loaded" onRetry={older.load} compact />
      </div>
    )
  }
  if (!older.exists || !older.loading) return null
  return (
    <div className={classes.loadingOlder} role="status">
      Loading older entries…
    </div>
  )
}

function Nothing({ conversation }: { conversation: Conversation }) {
  if (conversation.phase === 'loading') {
    return (
      <div className={classes.nothing}>
        <TextSkeleton lines={5} label="Loading the transcript" />
      </div>
    )
  }
  return (
    <div className={classes.nothing}>
      <p className={classes.quiet}>No messages yet. The conversation will appear here.</p>
    </div>
  )
}

/** How many entries have arrived since the end was last on the screen. */
function useUnseen(length: number, last: number, atEnd: boolean): number {
  const [seen, setSeen] = useState(last)
  useEffect(() => {
    if (atEnd) setSeen(last)
  }, [atEnd, last])
  return length === 0 || atEnd ? 0 : Math.max(0, last - seen)
}

/** Scrolls to the end once, when the first entries are loaded. */
function useStartAtEnd(length: number, scroll: () => void): void {
  const started = useRef(false)
  useEffect(() => {
    if (started.current || length === 0) return
    started.current = true
    scroll()
  }, [length, scroll])
}

/** Keeps the end on the screen when the transcript gets less room, for a question or a longer draft. */
function useEndKept(scroller: RefObject<HTMLDivElement | null>, atEnd: boolean, scroll: () => void): void {
  const newest = useRef({ atEnd, scroll })
  newest.current = { atEnd, scroll }
  useEffect(() => {
    const element = scroller.current
    if (element === null) return
    const observer = new ResizeObserver(() => {
      if (newest.current.atEnd) newest.current.scroll()
    })
    observer.observe(element)
    return () => observer.disconnect()
  }, [scroller])
}

import { sessionLog, topics, type FoundryError, type TopicPhase } from '@foundry/client'
import { useFoundry, useTopic } from '@foundry/client/react'
import type { QueuedMessage, Session } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { useCallback, useMemo, useRef, useState } from 'react'
import { Feed } from './feed'
import type { Transcript } from './fold'

/** Entries that are loaded first, counted from the end. */
const SHOWN_FIRST = 200
/** Entries per older page. */
const OLDER_PAGE = 200

/** A session with its queue and the loaded part of its transcript. */
export interface Conversation {
  readonly phase: TopicPhase
  readonly since: number
  readonly error: FoundryError | undefined
  readonly session: Session | undefined
  /** Revision of the session that is shown. */
  readonly rev: bigint
  readonly queue: readonly QueuedMessage[]
  readonly transcript: Transcript
  /** Changes whenever the transcript does. */
  readonly version: number
  readonly older: Older
}

/** The part before the loaded one. */
export interface Older {
  /** Whether there is anything before the loaded part. */
  readonly exists: boolean
  readonly loading: boolean
  readonly error: unknown
  /** Loads the page before the loaded part. */
  readonly load: () => void
}

/**
 * Watches a session from its last 200 entries on. `lastOffset` is its offset when it was opened, and is read only
 * once. Use it with a `key` of the session.
 */
export function useConversation(sessionId: string, lastOffset: bigint): Conversation {
  const [after] = useState(() => (lastOffset > BigInt(SHOWN_FIRST) ? lastOffset - BigInt(SHOWN_FIRST) : 0n))
  const state = useTopic(useMemo(() => topics.session(sessionId, after), [sessionId, after]))
  const [feed] = useState(() => new Feed())
  const log = sessionLog(state)
  if (log !== undefined) feed.take(log)
  const older = useOlder(sessionId, feed, Number(after))
  return {
    phase: state?.phase ?? 'loading',
    since: state?.since ?? 0,
    error: state?.error,
    session: log?.session,
    rev: state?.rev ?? 0n,
    queue: log?.queue ?? [],
    transcript: feed.transcript,
    version: feed.transcript.version,
    older,
  }
}

function useOlder(sessionId: string, feed: Feed, after: number): Older {
  const client = useFoundry()
  const [state, setState] = useState<{ loading: boolean; error?: unknown }>({ loading: false })
  const running = useRef(false)
  const first = feed.transcript.first
  const start = first === 0 ? after + 1 : first
  const load = useCallback(async () => {
    if (running.current || start <= 1) return
    running.current = true
    setState({ loading: true })
    const from = Math.max(1, start - OLDER_PAGE)
    try {
      const request = { sessionId, fromOffset: BigInt(from), pageSize: start - from }
      const page = await client.task.listTranscript(request)
      feed.transcript.prepend(page.entries.filter((entry) => Number(entry.offset) < start))
      setState({ loading: false })
    } catch (error) {
      setState({ loading: false, error })
    } finally {
      running.current = false
    }
  }, [client, feed, sessionId, start])
  return { exists: start > 1, loading: state.loading, error: state.error, load: () => void load() }
}

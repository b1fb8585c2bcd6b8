import { topics } from '@foundry/client'
import { useFoundry, useTopic } from '@foundry/client/react'
import { useEffect, useMemo, useRef, useSyncExternalStore } from 'react'
import { copyInBrowser, Draft, type DraftStatus } from './draft'

/** A draft as a field uses it. */
export interface DraftField {
  readonly draft: Draft
  readonly text: string
  readonly status: DraftStatus
}

/** How a draft is kept. */
export interface DraftOptions {
  /** Whose draft it is; undefined until known, and then there is no copy, since another user may sign in here. */
  readonly userId: string | undefined
  /** Whether text moves along when the subject changes. */
  readonly moves?: boolean
}

/** The draft of the person for a subject, kept on the server, and as a copy in this browser until the server has it. */
export function useDraft(organizationId: string, subject: string, { userId, moves = false }: DraftOptions): DraftField {
  const client = useFoundry()
  const owner = userId === undefined ? undefined : `${userId}/${organizationId}`
  const draft = useMemo(() => {
    const save = async (text: string) => (await client.task.updateDraft({ organizationId, subject, text })).rev
    return new Draft({ save, copy: owner === undefined ? undefined : copyInBrowser(`${owner}/${subject}`) })
  }, [client, organizationId, subject, owner])
  const text = useSyncExternalStore(draft.subscribe, () => draft.text)
  const status = useSyncExternalStore(draft.subscribe, () => draft.status)
  const state = useTopic(useMemo(() => topics.userState(organizationId), [organizationId]))
  const item = state?.entities.get(`draft/${subject}`)?.item
  const remote = item?.case === 'draft' ? item.value.text : undefined
  const rev = state?.rev ?? 0n
  const known = state?.phase === 'live' || state?.phase === 'stale'
  useEffect(() => {
    if (known) draft.remote(remote, rev)
  }, [draft, known, remote, rev])
  useEffect(() => {
    draft.resume()
    const hidden = () => document.visibilityState === 'hidden' && void draft.flush()
    document.addEventListener('visibilitychange', hidden)
    return () => {
      document.removeEventListener('visibilitychange', hidden)
      void draft.flush()
    }
  }, [draft])
  const before = useRef<{ draft: Draft; owner: string | undefined; place: string }>(null)
  useEffect(() => {
    const last = before.current
    const place = `${organizationId}/${subject}`
    before.current = { draft, owner, place }
    if (last === null || owner === undefined) return
    if (last.owner === owner && moves) draft.inherit(last.draft)
    // The user has become known while the person typed.
    if (last.owner === undefined && last.place === place) draft.take(last.draft)
  }, [draft, owner, organizationId, subject, moves])
  return { draft, text, status }
}

import { topics } from '@foundry/client'
import { useFoundry, useTopic } from '@foundry/client/react'
import { useEffect, useMemo, useSyncExternalStore } from 'react'
import { Draft, type DraftStatus } from './draft'

/** A draft as a field shows it. */
export interface DraftField {
  readonly draft: Draft
  readonly text: string
  readonly status: DraftStatus
}

/** The draft of the person for a subject (a session id), kept on the server. */
export function useDraft(organizationId: string, subject: string): DraftField {
  const client = useFoundry()
  const draft = useMemo(
    () => new Draft({ save: (text) => client.task.updateDraft({ organizationId, subject, text }) }),
    [client, organizationId, subject],
  )
  const text = useSyncExternalStore(draft.subscribe, () => draft.text)
  const status = useSyncExternalStore(draft.subscribe, () => draft.status)
  const state = useTopic(useMemo(() => topics.userState(organizationId), [organizationId]))
  const item = state?.entities.get(`draft/${subject}`)?.item
  const remote = item?.case === 'draft' ? item.value.text : undefined
  const known = state !== undefined && state.phase !== 'loading'
  useEffect(() => {
    if (known) draft.remote(remote)
  }, [draft, known, remote])
  useEffect(() => {
    const hidden = () => document.visibilityState === 'hidden' && void draft.flush()
    document.addEventListener('visibilitychange', hidden)
    return () => {
      document.removeEventListener('visibilitychange', hidden)
      draft.dispose()
    }
  }, [draft])
  return { draft, text, status }
}

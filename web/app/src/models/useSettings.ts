import { FoundryError } from '@foundry/client'
import { useRef, useState } from 'react'
import { useCommand } from '../state/command'
import { useAlive } from '../ui/useAlive'
import { toastDone } from '../ui'
import { changedPaths, merged, type Clash, type Fields } from './draft'
import { useSecrets, type Secrets } from './useSecrets'

/** Problems of a form, by the id of a field. */
export type Problems = Readonly<Record<string, string | undefined>>

/** Settings being sent. */
export interface Sent<V> {
  readonly requestId: string
  readonly draft: V
  /** Paths of the changed fields; all fields when something is added. */
  readonly paths: string[]
  /** The revision on which the change is based; undefined when something is added. */
  readonly rev: bigint | undefined
  readonly secretOf: (id: string) => string
}

/** How a form adds or changes settings of one kind. */
export interface Plan<V, E> {
  /** The entity to change; undefined = one is added. */
  readonly entity: E | undefined
  readonly fields: Fields<V>
  readonly draftOf: (entity: E | undefined) => V
  /** Completes a draft before it is sent, where something is chosen only then. */
  readonly settled?: (draft: V) => V
  /** Problems by field; `isGiven` = whether a secret is entered. */
  readonly problemsOf: (draft: V, isGiven: (id: string) => boolean) => Problems
  readonly send: (sent: Sent<V>) => Promise<unknown>
  /** Loads the entity to change in its present state. */
  readonly read: () => Promise<E | undefined>
  /**
   * Whether secrets that were entered for one content may be sent with another, which somebody else has changed in
   * part.
   */
  readonly mayKeepSecrets: (entered: V, now: V) => boolean
  /** `failed`: what did not happen, as a sentence without a full stop; `done`: what did happen. */
  readonly words: { readonly failed: string; readonly done: string }
  readonly nameOf: (draft: V) => string
  readonly onClose: () => void
  /** Called after the stored settings have changed. */
  readonly onChanged: () => void
}

/** A form over settings, as its fields use it. */
export interface Settings<V> {
  readonly draft: V
  readonly set: (change: Partial<V>) => void
  readonly problems: Problems
  readonly secrets: Secrets
  /** Fields that another person has changed too; empty = they changed others, undefined = no conflict so far. */
  readonly clashes: readonly Clash[] | undefined
  readonly error: FoundryError | undefined
  readonly busy: boolean
  readonly submit: () => Promise<void>
}

/** The fields to which secrets with these ids belong: an id begins with the name of its field. */
function secretly(ids: readonly string[]): string[] {
  return ids.map((id) => id.split('/')[0] ?? '')
}

/** Runs a change; returns the stored settings when it was refused because another person saved first. */
async function unlessChanged<E>(change: () => Promise<unknown>, read: () => Promise<E | undefined>): Promise<{ now?: E }> {
  try {
    await change()
    return {}
  } catch (thrown) {
    if (FoundryError.from(thrown).reason !== 'REVISION_CHANGED') throw thrown
    const now = await read()
    if (now === undefined) throw thrown
    return { now }
  }
}

/**
 * Holds a form and sends it; a change contains only the changed fields. The service refuses a change that is based on
 * an older revision; the form then shows the stored settings with this person's changes applied, ready to be sent
 * again.
 */
export function useSettings<V extends object, E extends { readonly rev: bigint }>(plan: Plan<V, E>): Settings<V> {
  const isNew = plan.entity === undefined
  const [rev, setRev] = useState(plan.entity?.rev)
  const [base, setBase] = useState(() => plan.draftOf(plan.entity))
  const [draft, setDraft] = useState(base)
  const [problems, setProblems] = useState<Problems>({})
  const [clashes, setClashes] = useState<readonly Clash[]>()
  const latest = useRef(draft)
  latest.current = draft
  const secrets = useSecrets()
  const alive = useAlive()
  const command = useCommand(
    plan.words.failed,
    (requestId: string, { attempt: _, ...input }: Omit<Sent<V>, 'requestId' | 'secretOf'> & { attempt: number }) => {
      const send = () => plan.send({ ...input, requestId, secretOf: secrets.of })
      return unlessChanged(send, plan.read)
    },
  )
  const missing = (): Problems =>
    Object.fromEntries(secrets.missing().map((id) => [id, `Enter the ${id === 'credential' ? 'key' : 'value'} again: it was not saved.`]))
  const rebase = (now: E, sent: readonly string[]) => {
    const theirs = plan.draftOf(now)
    // Includes edits that were made while it was sent.
    const paths = [...new Set([...sent, ...changedPaths(plan.fields, base, latest.current, secretly(secrets.given()))])]
    const { values, clashes } = merged(plan.fields, base, latest.current, theirs, paths)
    if (plan.mayKeepSecrets(latest.current, values)) secrets.putBack()
    else secrets.forget()
    setProblems(missing())
    setRev(now.rev)
    setBase(theirs)
    setDraft(values)
    setClashes(clashes)
    plan.onChanged()
  }
  const submit = async () => {
    if (command.busy) return
    const given = secrets.given()
    const settled = plan.settled?.(draft) ?? draft
    const found = { ...plan.problemsOf(settled, (id) => given.includes(id)), ...missing() }
    setProblems(found)
    if (Object.values(found).some((it) => it !== undefined)) return
    const paths = isNew
      ? Object.values<{ path: string }>(plan.fields).map((it) => it.path)
      : changedPaths(plan.fields, base, settled, secretly(given))
    if (paths.length === 0) return plan.onClose()
    setClashes(undefined)
    const outcome = await command.run({ draft: settled, paths, rev, attempt: secrets.take() })
    if (outcome?.now !== undefined) return rebase(outcome.now, paths)
    secrets.forget()
    if (outcome === undefined) return
    toastDone(plan.words.done, plan.nameOf(draft))
    plan.onChanged()
    if (alive.current) plan.onClose()
  }
  const set = (change: Partial<V>) => setDraft((before) => ({ ...before, ...change }))
  return { draft, set, problems, secrets, clashes, error: command.error, busy: command.busy, submit }
}

import { useFoundry } from '@foundry/client/react'
import { useCallback, useEffect, useRef, useState } from 'react'
import { useShell } from './shell'
import type { UserEntities } from './unread'

/** Quiet time before a draft is sent to the server, in milliseconds. */
export const DRAFT_PAUSE = 700
/** Largest draft that the server keeps, in bytes of UTF-8; longer ones stay in this browser. */
export const DRAFT_LIMIT = 12 * 1024

/** What a draft needs from around it. */
export interface DraftPorts {
  /** Sends a text; empty removes the draft. */
  readonly send: (text: string) => Promise<unknown>
  /** Keeps a text that is not at the server yet; undefined forgets it. */
  readonly keep: (text: string | undefined) => void
}

/**
 * What a person typed and did not send. The local copy is written with every key; the server gets it after a pause.
 * A text from the server is taken only while nothing typed here waits to go there.
 */
export class DraftKeeper {
  private timer: ReturnType<typeof setTimeout> | undefined
  private sent: string
  /** Texts sent from here whose echo has not come back yet, oldest first. */
  private echoes: string[] = []
  private sending = false
  /** Whether something is to be sent once the answer of what is on its way is there. */
  private waiting = false

  constructor(
    private readonly ports: DraftPorts,
    public text: string,
    sent: string,
  ) {
    this.sent = sent
  }

  /** Whether something typed here is not at the server yet. */
  get dirty(): boolean {
    return this.text !== this.sent
  }

  /** Notes what was typed. */
  type(text: string): void {
    this.text = text
    this.ports.keep(this.dirty ? text : undefined)
    clearTimeout(this.timer)
    if (this.dirty) this.timer = setTimeout(() => void this.flush(), DRAFT_PAUSE)
  }

  /** Takes a text that the server has; returns whether the local one changed. */
  receive(text: string): boolean {
    const echo = this.echoes.indexOf(text)
    if (echo >= 0) {
      this.echoes = this.echoes.slice(echo + 1)
      return false
    }
    if (this.dirty) {
      // What is typed here wins, but whether it is there already is told by what is there.
      if (!this.sending) this.sent = text
      if (!this.dirty) this.ports.keep(undefined)
      return false
    }
    this.sent = text
    const changed = this.text !== text
    this.text = text
    return changed
  }

  /**
   * Sends what waits, at once, or as soon as what is on its way was answered: an older text never overtakes a newer
   * one. A failure leaves the local copy, and the next key tries again.
   */
  async flush(): Promise<void> {
    clearTimeout(this.timer)
    this.waiting = this.sending
    const text = this.text
    if (this.sending || text === this.sent || new TextEncoder().encode(text).length > DRAFT_LIMIT) return
    this.echoes.push(text)
    this.sending = true
    try {
      await this.ports.send(text)
      this.sent = text
      if (this.text === text) this.ports.keep(undefined)
    } catch {
      this.echoes = this.echoes.filter((it) => it !== text)
    }
    this.sending = false
    if (this.waiting) await this.flush()
  }

  /** The text was used: forgets it here and at the server, also after the field was closed. */
  clear(): void {
    this.text = ''
    this.ports.keep(undefined)
    void this.flush()
  }

  /** The field goes away: sends what waits. */
  close(): void {
    void this.flush()
  }
}

const PREFIX = 'foundry-draft/'

function kept(name: string): string | undefined {
  return localStorage.getItem(PREFIX + name) ?? undefined
}

function keep(name: string, text: string | undefined): void {
  try {
    if (text === undefined) localStorage.removeItem(PREFIX + name)
    else localStorage.setItem(PREFIX + name, text)
  } catch {
    // The storage of this origin is full or switched off; the server's copy remains.
  }
}

/** Forgets the texts kept in this browser; part of signing out. */
export function forgetDrafts(): void {
  for (const key of Object.keys(localStorage)) if (key.startsWith(PREFIX)) localStorage.removeItem(key)
}

/** The text of a draft as the server has it; empty when there is none. */
export function serverDraft(entities: UserEntities, subject: string): string {
  const item = entities.get(`draft/${subject}`)?.item
  return item?.case === 'draft' ? item.value.text : ''
}

/** A draft as a component uses it; undefined subject = nothing is kept. */
export function useDraft(organizationId: string, subject: string | undefined, entities: UserEntities) {
  const client = useFoundry()
  // What is kept in this browser is its user's alone: another one may sign in here.
  const userId = useShell().user?.userId
  const keeper = useRef<DraftKeeper>(null)
  const owner = useRef('')
  /** What was typed before it was known where to keep it. */
  const early = useRef('')
  const [text, setText] = useState('')
  const server = subject === undefined ? '' : serverDraft(entities, subject)
  // biome-ignore lint/correctness/useExhaustiveDependencies: the next effect follows the server's text
  useEffect(() => {
    if (subject === undefined || userId === undefined) return
    const name = `${userId}/${organizationId}/${subject}`
    const local = kept(name)
    const fresh = new DraftKeeper(
      {
        send: (typed) => client.task.updateDraft({ organizationId, subject, text: typed }),
        keep: (typed) => keep(name, typed),
      },
      local ?? server,
      server,
    )
    const before = owner.current === `${userId}/${organizationId}` ? keeper.current : undefined
    owner.current = `${userId}/${organizationId}`
    keeper.current = fresh
    // Words go along to another subject, unless others are kept there.
    const along = early.current !== '' ? early.current : (before?.text ?? '')
    early.current = ''
    if (fresh.text === '' && along !== '') {
      fresh.type(along)
      before?.clear()
    }
    setText(fresh.text)
    if (fresh.dirty) fresh.type(fresh.text)
    return () => fresh.close()
  }, [client, userId, organizationId, subject])
  useEffect(() => {
    if (keeper.current?.receive(server) === true) setText(server)
  }, [server])
  const type = useCallback((typed: string) => {
    setText(typed)
    if (keeper.current === null) early.current = typed
    keeper.current?.type(typed)
  }, [])
  /** Takes the text to be used; returns what forgets it once it was, whatever subject is shown by then. */
  const take = useCallback(() => {
    const taken = keeper.current
    return () => {
      if (keeper.current === taken) setText('')
      taken?.clear()
    }
  }, [])
  return { text, type, take }
}

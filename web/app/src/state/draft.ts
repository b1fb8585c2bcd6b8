import { byteLength } from '../ui/text/size'

/** How long typing rests before a draft is saved, in milliseconds. */
export const DRAFT_DELAY = 600
/** Largest draft that the server keeps, in bytes of UTF-8. */
export const DRAFT_LIMIT = 12 * 1024

/** Whether a draft is kept on the server. */
export type DraftStatus = 'kept' | 'saving' | 'unsaved' | 'too-long'

/** Where a draft is kept. */
export interface DraftStorage {
  /** Keeps a text on the server; empty = the draft is gone. */
  readonly save: (text: string) => Promise<unknown>
  /** Keeps in this browser what the server does not have yet. Without it, that goes with the page. */
  readonly copy?: DraftCopy
}

/** A text in this browser; undefined = there is none. */
export interface DraftCopy {
  readonly read: () => string | undefined
  readonly write: (text: string | undefined) => void
}

/**
 * What a person typed and did not send. What is typed here wins: a text from elsewhere (another tab, another device)
 * is taken only while nothing here is unsaved, and echoes of one's own saves are never taken for news.
 */
export class Draft {
  /** What the field shows. */
  text: string
  /** What the server has; undefined = not known, while a copy of an earlier page waits to go there. */
  private kept: string | undefined
  /** What is on its way to the server. */
  private saving: string | undefined
  /** Whether to save once more when what is on its way was answered. */
  private again = false
  /** Texts saved from here that were not heard of from the server yet, oldest first. */
  private echoes: string[] = []
  private timer: ReturnType<typeof setTimeout> | undefined
  private readonly listeners = new Set<() => void>()

  constructor(private readonly storage: DraftStorage) {
    const copy = storage.copy?.read()
    this.text = copy ?? ''
    this.kept = copy === undefined ? '' : undefined
  }

  /** For `useSyncExternalStore`. */
  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  get status(): DraftStatus {
    if (tooLong(this.text)) return 'too-long'
    if (this.saving !== undefined) return this.text === this.saving ? 'saving' : 'unsaved'
    return this.text === this.kept ? 'kept' : 'unsaved'
  }

  /** The person typed. */
  edit(text: string): void {
    this.text = text
    const unsaved = this.status !== 'kept'
    this.storage.copy?.write(unsaved ? text : undefined)
    clearTimeout(this.timer)
    if (unsaved) this.timer = setTimeout(() => void this.flush(), DRAFT_DELAY)
    this.notify()
  }

  /** Sees to it that a copy of an earlier page goes to the server. */
  resume(): void {
    if (this.status !== 'kept') this.edit(this.text)
  }

  /** The server's draft changed; undefined or empty = there is none. */
  remote(text: string | undefined): void {
    const news = text ?? ''
    const echo = this.echoes.indexOf(news)
    if (echo !== -1) {
      this.echoes.splice(0, echo + 1)
      return
    }
    if (this.saving !== undefined) return
    if (this.text === this.kept) {
      this.text = news
      this.echoes = []
    }
    // What is typed here stays, but whether it is there already is told by what is there.
    this.kept = news
    this.settle()
  }

  /**
   * Saves at once what is unsaved, or as soon as what is on its way was answered: an older text never overtakes a newer
   * one. After a failure the next key tries again.
   */
  async flush(): Promise<void> {
    clearTimeout(this.timer)
    this.again = this.saving !== undefined
    const text = this.text
    if (this.again || text === this.kept || tooLong(text)) return
    this.saving = text
    this.echoes.push(text)
    this.notify()
    try {
      await this.storage.save(text)
      this.kept = text
    } catch {
      // The newest only: an earlier save of the same text may still be heard of.
      this.echoes.splice(this.echoes.lastIndexOf(text), 1)
    }
    this.saving = undefined
    this.settle()
    if (this.again) await this.flush()
  }

  /** These words were sent: what was typed behind them since stays; a text that was changed otherwise stays whole. */
  sent(words: string): void {
    if (!this.text.startsWith(words)) return
    this.edit(this.text.slice(words.length))
    void this.flush()
  }

  /** The text was used: forgets it here and on the server, also after the field was closed. */
  clear(): void {
    this.sent(this.text)
    this.storage.copy?.write(undefined)
  }

  /** Takes along the words of another draft, unless there are others here. */
  inherit(from: Draft): void {
    if (this.text !== '' || from.text === '') return
    this.edit(from.text)
    from.clear()
  }

  /** What the server has changed: a copy of it is of no more use. Another tab may keep a text of its own there. */
  private settle(): void {
    if (this.text === this.kept && this.storage.copy?.read() === this.text) this.storage.copy.write(undefined)
    this.notify()
  }

  private notify(): void {
    for (const listener of this.listeners) listener()
  }
}

function tooLong(text: string): boolean {
  return text.length > DRAFT_LIMIT / 3 && byteLength(text) > DRAFT_LIMIT
}

const PREFIX = 'foundry-draft/'

/** A copy in the storage of this origin. */
export function copyInBrowser(name: string): DraftCopy {
  const key = PREFIX + name
  return {
    read: () => localStorage.getItem(key) ?? undefined,
    write: (text) => {
      try {
        if (text === undefined) localStorage.removeItem(key)
        else localStorage.setItem(key, text)
      } catch {
        // The storage of this origin is full or switched off; the server's copy remains.
      }
    },
  }
}

/** Forgets the texts kept in this browser; part of signing out. */
export function forgetDrafts(): void {
  for (const key of Object.keys(localStorage)) if (key.startsWith(PREFIX)) localStorage.removeItem(key)
}

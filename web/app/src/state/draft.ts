import { byteLength } from '../ui/text/size'

/** Pause in typing before a draft is saved, in milliseconds. */
export const DRAFT_DELAY = 600
/** Largest draft that the server keeps, in bytes of UTF-8. */
export const DRAFT_LIMIT = 12 * 1024

/** Whether a draft is kept on the server. */
export type DraftStatus = 'kept' | 'saving' | 'unsaved' | 'too-long'

/** Where a draft is stored. */
export interface DraftStorage {
  /** Saves a text on the server; empty = deletes the draft. */
  readonly save: (text: string) => Promise<unknown>
  /** Stores in this browser what the server does not have yet. Without it, that is lost with the page. */
  readonly copy?: DraftCopy
}

/** A text in this browser; undefined = there is none. */
export interface DraftCopy {
  readonly read: () => string | undefined
  readonly write: (text: string | undefined) => void
}

/**
 * Text that a person typed but has not sent. Text typed here has precedence: a text from another tab or device is
 * taken over only while nothing here is unsaved, and echoes of own saves are ignored.
 */
export class Draft {
  /** The text in the field. */
  text: string
  /** The text on the server; undefined = not known, while a copy of an earlier page is still to be saved. */
  private kept: string | undefined
  /** The text that is being saved. */
  private saving: string | undefined
  /** Whether to save again when the present save is done. */
  private again = false
  /** Texts saved from here whose echo has not arrived yet, oldest first. */
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

  /** Takes over what the person typed. */
  edit(text: string): void {
    this.text = text
    const unsaved = this.status !== 'kept'
    this.storage.copy?.write(unsaved ? text : undefined)
    clearTimeout(this.timer)
    if (unsaved) this.timer = setTimeout(() => void this.flush(), DRAFT_DELAY)
    this.notify()
  }

  /** Saves a copy that an earlier page has left. */
  resume(): void {
    if (this.status !== 'kept') this.edit(this.text)
  }

  /** The server's draft has changed; undefined or empty = there is none. */
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
    // The typed text stays; whether it is saved depends on the server's text.
    this.kept = news
    this.settle()
  }

  /**
   * Saves unsaved text at once, or when the present save is done: an older text never overtakes a newer one. After a
   * failure the next key retries.
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
      // Only the newest: the echo of an earlier save of the same text may still arrive.
      this.echoes.splice(this.echoes.lastIndexOf(text), 1)
    }
    this.saving = undefined
    this.settle()
    if (this.again) await this.flush()
  }

  /** Removes text that was sent; text typed after it stays, and a text that was changed otherwise stays whole. */
  sent(words: string): void {
    if (!this.text.startsWith(words)) return
    this.edit(this.text.slice(words.length))
    void this.flush()
  }

  /** Deletes the text here and on the server, even if the field is closed. */
  clear(): void {
    this.sent(this.text)
    this.storage.copy?.write(undefined)
  }

  /** Takes over the text of another draft, unless there is text here. */
  inherit(from: Draft): void {
    if (this.text !== '' || from.text === '') return
    this.edit(from.text)
    from.clear()
  }

  /** Removes the browser's copy when the server has the text. Another tab may have a different copy there. */
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
        // The storage of this origin is full or disabled; the server still has its text.
      }
    },
  }
}

/** Removes the texts kept in this browser; part of signing out. */
export function forgetDrafts(): void {
  for (const key of Object.keys(localStorage)) if (key.startsWith(PREFIX)) localStorage.removeItem(key)
}

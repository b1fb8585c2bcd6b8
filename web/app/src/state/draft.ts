import { byteLength } from '../ui/text/size'

/** Pause in typing before a draft is saved, in milliseconds. */
export const DRAFT_DELAY = 600
/** Largest draft that the server keeps, in bytes of UTF-8. */
export const DRAFT_LIMIT = 12 * 1024
/** Delay before a failed deletion of a draft is repeated, in milliseconds; it doubles with every failure. */
export const CLEAR_RETRY = 5_000
/** How often a failed deletion is repeated at most. */
const CLEAR_RETRIES = 8
/** How many texts a copy lists at most as the server's when it was made. */
const MAX_BASES = 4

/** Whether a draft is kept on the server. */
export type DraftStatus = 'kept' | 'saving' | 'unsaved' | 'too-long'

/** Where a draft is stored. */
export interface DraftStorage {
  /** Saves a text on the server and returns the revision that has it; empty = deletes the draft. */
  readonly save: (text: string) => Promise<bigint>
  /** Stores in this browser what the server does not have yet. Without it, that is lost with the page. */
  readonly copy?: DraftCopy
}

/** A text in this browser, and what it was made from. */
export interface Copied {
  readonly text: string
  /** What the server had, or may have had, when this was typed; empty = not known. */
  readonly bases: readonly string[]
}

/** Where a text is kept in this browser; undefined = there is none. */
export interface DraftCopy {
  readonly read: () => Copied | undefined
  readonly write: (copied: Copied | undefined) => void
}

/** What the server has shown. */
interface News {
  readonly text: string
  readonly rev: bigint
}

/**
 * Text that a person typed but has not sent. Text typed here has precedence: a text from another tab or device is
 * taken over only while nothing here is unsaved, and never one that is older than what was saved from here. A copy that
 * an earlier page left in this browser gives way to a text that the server got from elsewhere since.
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
  /** Revision of the last save from here. */
  private rev = 0n
  /** The newest that the server has shown; undefined = nothing yet. */
  private news: News | undefined
  /** The copy in this browser as it was when this draft last looked at it; another tab may have changed it since. */
  private held: string | undefined
  /** What the server has, or may have after a save whose answer was lost; empty = not known. */
  private bases: readonly string[]
  /** How often in a row the deletion of the draft has failed. */
  private failures = 0
  /** Whether the text is what an earlier page left, untouched since: another field may save or send it first. */
  private found: boolean
  private timer: ReturnType<typeof setTimeout> | undefined
  private readonly listeners = new Set<() => void>()

  constructor(private readonly storage: DraftStorage) {
    const copied = storage.copy?.read()
    this.held = copied?.text
    this.text = this.held ?? ''
    this.found = this.text !== ''
    this.kept = this.found ? undefined : ''
    this.bases = (this.found ? copied?.bases : undefined) ?? []
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
    this.found = false
    this.text = text
    const unsaved = this.status !== 'kept'
    // An empty copy would delete later what was written on another device.
    this.hold(unsaved && text !== '' ? text : undefined)
    clearTimeout(this.timer)
    if (unsaved) this.timer = setTimeout(() => void this.flush(), DRAFT_DELAY)
    this.notify()
  }

  /** Saves a copy that an earlier page has left, once the server's draft is known. */
  resume(): void {
    if (this.status === 'kept') return
    clearTimeout(this.timer)
    this.timer = setTimeout(() => void this.flush(), DRAFT_DELAY)
  }

  /** The server's draft at a revision; undefined or empty = there is none. */
  remote(text: string | undefined, rev: bigint): void {
    this.news = { text: text ?? '', rev }
    // Whether this is older than what is being saved is known when the save is done.
    if (this.saving !== undefined) return
    this.learn()
    this.settle()
    if (this.found) this.resume()
  }

  /**
   * Saves unsaved text at once, or when the present save is done: an older text never overtakes a newer one. After a
   * failure the next key retries; a deletion, after which no key may come, is repeated.
   */
  async flush(): Promise<void> {
    clearTimeout(this.timer)
    this.again = this.saving !== undefined
    if (!this.again) this.learn()
    const text = this.text
    if (this.again || text === this.kept || tooLong(text)) return
    // Whether the server has something newer than an earlier page's copy is not known yet.
    if (this.found && this.kept === undefined) return
    this.saving = text
    this.found = false
    this.attempt(text)
    this.notify()
    try {
      this.rev = await this.storage.save(text)
      this.kept = text
      this.bases = [text]
      this.failures = 0
    } catch {
      // The server may have this text or the one before: what it shows from now on says which.
      this.kept = undefined
      this.news = undefined
      if (text === '') this.clearLater()
    }
    this.saving = undefined
    this.learn()
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
  }

  /** Takes over the text of another draft of the same subject, unless there is text here. Returns whether it did. */
  take(from: Draft): boolean {
    if (this.text !== '' || from.text === '') return false
    this.edit(from.text)
    return true
  }

  /** Takes over the text of another subject's draft, which is deleted there, unless there is text here. */
  inherit(from: Draft): void {
    if (this.take(from)) from.clear()
  }

  /** Takes over what the server has shown, unless something newer was saved from here. */
  private learn(): void {
    if (this.found && this.storage.copy?.read()?.text !== this.held) {
      this.found = false
      this.kept = this.text
    }
    if (this.news === undefined || this.news.rev < this.rev) return
    const { text } = this.news
    if (this.text === this.kept || this.isOutdatedBy(text)) this.text = text
    // Otherwise the typed text stays; whether it is saved depends on the server's text.
    this.kept = text
    if (this.text === text) {
      this.found = false
      this.failures = 0
    }
    if (this.bases.length !== 1 || this.bases[0] !== text) this.base([text])
  }

  /** Whether the server got its text from elsewhere since an earlier page's copy was made, or since a deletion failed. */
  private isOutdatedBy(text: string): boolean {
    const late = (this.found && this.kept === undefined) || (this.failures > 0 && this.text === '')
    return late && this.bases.length > 0 && !this.bases.includes(text)
  }

  /** Lists a text as one that the server may have from now on, since it is sent there. */
  private attempt(text: string): void {
    if (this.bases.length === 0 || this.bases.includes(text)) return
    // What it had before all failures stays listed.
    const [first = '', ...later] = this.bases
    this.base([first, ...[...later, text].slice(1 - MAX_BASES)])
  }

  /** Sets what the server has or may have, also in the browser's copy of the text that stays unsaved. */
  private base(bases: readonly string[]): void {
    this.bases = bases
    const unsaved = this.held !== undefined && this.held === this.text && this.text !== this.kept
    if (unsaved && this.storage.copy?.read()?.text === this.held) this.hold(this.text)
  }

  /** Repeats the deletion that has failed. */
  private clearLater(): void {
    this.failures += 1
    if (this.failures > CLEAR_RETRIES || this.text !== '') return
    this.timer = setTimeout(() => void this.flush(), CLEAR_RETRY * 2 ** (this.failures - 1))
  }

  /** Removes the browser's copy when the server has the text. */
  private settle(): void {
    if (this.text === this.kept) this.hold(undefined)
    this.notify()
  }

  /** Stores the browser's copy. Removes it only if it is what this draft found or stored there, not another tab's. */
  private hold(text: string | undefined): void {
    const { copy } = this.storage
    if (copy === undefined) return
    if (text === undefined && (this.held === undefined || copy.read()?.text !== this.held)) return
    copy.write(text === undefined ? undefined : { text, bases: this.bases })
    // The storage may have refused it.
    this.held = copy.read()?.text
  }

  private notify(): void {
    for (const listener of this.listeners) listener()
  }
}

function tooLong(text: string): boolean {
  return text.length > DRAFT_LIMIT / 3 && byteLength(text) > DRAFT_LIMIT
}

const PREFIX = 'foundry-draft/'

/** A copy in the storage of this origin; none where that is full or forbidden. */
export function copyInBrowser(name: string): DraftCopy {
  const key = PREFIX + name
  return {
    read: () => {
      const stored = ifAllowed(() => localStorage.getItem(key)) ?? undefined
      return stored === undefined ? undefined : parsed(stored)
    },
    write: (copied) =>
      ifAllowed(() => (copied === undefined ? localStorage.removeItem(key) : localStorage.setItem(key, JSON.stringify(copied)))),
  }
}

function parsed(stored: string): Copied {
  const value: Partial<Copied> | undefined = ifAllowed(() => JSON.parse(stored) ?? undefined)
  if (typeof value?.text === 'string' && Array.isArray(value.bases)) return { text: value.text, bases: value.bases }
  // An older page stored the text alone.
  return { text: stored, bases: [] }
}

/** Removes the texts kept in this browser; part of signing out. */
export function forgetDrafts(): void {
  ifAllowed(() => {
    for (const key of Object.keys(localStorage)) if (key.startsWith(PREFIX)) localStorage.removeItem(key)
  })
}

/** Uses the storage of this origin; undefined when that is full, forbidden or malformed. */
function ifAllowed<T>(use: () => T): T | undefined {
  try {
    return use()
  } catch {
    return undefined
  }
}

/** Bytes of a draft that the server keeps at most. */
export const DRAFT_AT_MOST = 12 * 1024

/** How long typing rests before a draft is saved, in milliseconds. */
export const DRAFT_DELAY = 600

/** Whether the draft is kept on the server. */
export type DraftStatus = 'kept' | 'saving' | 'unsaved' | 'too-long'

interface Options {
  /** Keeps the text on the server; empty = the draft is gone. */
  save: (text: string) => Promise<unknown>
  delay?: number
}

/**
 * A draft between a text field and the server. What is typed here wins: a text from elsewhere (another tab, another
 * device) is taken only while nothing here is unsaved, and echoes of one's own saves are never taken for news.
 */
export class Draft {
  /** What the field shows. */
  text = ''
  status: DraftStatus = 'kept'
  private kept = ''
  private saving: string | undefined
  private readonly echoes: string[] = []
  private timer: ReturnType<typeof setTimeout> | undefined
  private readonly listeners = new Set<() => void>()

  constructor(private readonly options: Options) {}

  /** For `useSyncExternalStore`. */
  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** The person typed. */
  edit(text: string): void {
    this.text = text
    if (tooLong(text)) this.status = 'too-long'
    else this.status = text === this.kept && this.saving === undefined ? 'kept' : 'unsaved'
    clearTimeout(this.timer)
    if (this.status === 'unsaved') this.timer = setTimeout(() => void this.flush(), this.options.delay ?? DRAFT_DELAY)
    this.notify()
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
    if (this.text !== this.kept) {
      // What is typed here wins, but whether it is there already is told by what is there.
      this.kept = news
      if (this.text === news) {
        this.status = 'kept'
        this.notify()
      }
      return
    }
    this.echoes.length = 0
    if (news === this.text) return
    this.text = news
    this.kept = news
    this.status = 'kept'
    this.notify()
  }

  /** Saves at once what is unsaved: the field lost the focus, or the page is about to be hidden. */
  async flush(): Promise<void> {
    clearTimeout(this.timer)
    if (this.saving !== undefined || this.text === this.kept || tooLong(this.text)) return
    const text = this.text
    this.saving = text
    this.status = 'saving'
    this.echoes.push(text)
    this.notify()
    try {
      await this.options.save(text)
      this.kept = text
      this.saving = undefined
      if (this.text === text) this.status = 'kept'
      else this.edit(this.text)
    } catch {
      this.saving = undefined
      this.echoes.splice(this.echoes.lastIndexOf(text), 1)
      if (!tooLong(this.text)) this.status = 'unsaved'
    }
    this.notify()
  }

  /** These words were sent: what was typed behind them meanwhile stays; a text that was changed otherwise stays whole. */
  sent(words: string): void {
    if (!this.text.startsWith(words)) return
    this.edit(this.text.slice(words.length))
    void this.flush()
  }

  /** Saves what is left and stops the clock. */
  dispose(): void {
    void this.flush()
    clearTimeout(this.timer)
  }

  private notify(): void {
    for (const listener of this.listeners) listener()
  }
}

const encoder = new TextEncoder()

/** Length of a text in bytes of UTF-8. */
export function byteLength(text: string): number {
  return encoder.encode(text).length
}

function tooLong(text: string): boolean {
  return text.length > DRAFT_AT_MOST / 3 && byteLength(text) > DRAFT_AT_MOST
}

import { FoundryError, newRequestId } from '@foundry/client'
import type { Attachment } from '@foundry/client/gen/foundry/common/v1/transcript_pb'
import { isPicture } from './kinds'

/** Largest file in bytes. */
export const MAX_FILE_BYTES = 3 * 1024 * 1024
/** Most files of a message. */
export const MAX_FILES = 10
const MAX_NAME_BYTES = 200

/** A file being uploaded for a message. */
export interface Upload {
  readonly key: string
  readonly name: string
  readonly size: number
  /** Object URL of a picture; valid while the file is listed. */
  readonly preview: string | undefined
  readonly state: 'sending' | 'sent' | 'failed'
  /** Why it failed. */
  readonly error: unknown
  /** Whether a retry can help. */
  readonly retryable: boolean
  /** The stored file, once the server has it. */
  readonly attachment: Attachment | undefined
}

/** Sends a file to the server. */
export type Put = (requestId: string, name: string, content: Uint8Array<ArrayBuffer>, signal: AbortSignal) => Promise<Attachment>

interface Kept {
  readonly file: File
  readonly requestId: string
  readonly abort: AbortController
}

/** The files of the message being written. Each is sent as soon as it is added; a message takes those that are sent. */
export class Uploads {
  private list: readonly Upload[] = []
  private readonly kept = new Map<string, Kept>()
  private readonly listeners = new Set<() => void>()

  constructor(private readonly put: Put) {}

  /** For `useSyncExternalStore`. */
  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** The files in order; the same array until something changes. */
  readonly get = (): readonly Upload[] => this.list

  /** Adds files; returns how many were refused because there are too many. */
  add(files: readonly File[]): { readonly refused: number } {
    const room = Math.max(0, MAX_FILES - this.list.length)
    for (const file of files.slice(0, room)) {
      const key = newRequestId()
      const kept = { file, requestId: newRequestId(), abort: new AbortController() }
      this.kept.set(key, kept)
      const preview = isPicture(file.type) && file.size <= MAX_FILE_BYTES ? URL.createObjectURL(file) : undefined
      const upload: Upload = {
        key,
        name: cleanName(file.name),
        size: file.size,
        preview,
        state: 'sending',
        error: undefined,
        retryable: false,
        attachment: undefined,
      }
      this.set([...this.list, upload])
      void this.send(key)
    }
    return { refused: Math.max(0, files.length - room) }
  }

  /** Sends a failed file again. The server stores it once, even if only its answer was lost. */
  retry(key: string): void {
    this.change(key, { state: 'sending', error: undefined })
    void this.send(key)
  }

  /** Removes a file; aborts it if it is being sent. */
  remove(key: string): void {
    this.kept.get(key)?.abort.abort()
    this.kept.delete(key)
    const gone = this.list.find((each) => each.key === key)
    if (gone?.preview !== undefined) URL.revokeObjectURL(gone.preview)
    this.set(this.list.filter((each) => each.key !== key))
  }

  /** Removes the files that a message has now, so that no other message gets them. */
  taken(attachmentIds: readonly string[]): void {
    for (const { key, attachment } of this.list)
      if (attachment !== undefined && attachmentIds.includes(attachment.attachmentId)) this.remove(key)
  }

  /** Aborts and removes everything. */
  dispose(): void {
    for (const { key } of this.list) this.remove(key)
  }

  private async send(key: string): Promise<void> {
    const kept = this.kept.get(key)
    if (kept === undefined) return
    try {
      const { file, requestId, abort } = kept
      if (file.size === 0) throw refused('the file is empty')
      if (file.size > MAX_FILE_BYTES) throw refused('the file is over 3 MiB', 'choose a smaller file, or commit it to the repository')
      const content = await bytesOf(file)
      const attachment = await this.put(requestId, cleanName(file.name), content, abort.signal)
      this.change(key, { state: 'sent', attachment })
    } catch (error) {
      if (!kept.abort.signal.aborted) this.change(key, { state: 'failed', error, retryable: FoundryError.from(error).retryable })
    }
  }

  private change(key: string, change: Partial<Upload>): void {
    this.set(this.list.map((each) => (each.key === key ? { ...each, ...change } : each)))
  }

  private set(list: readonly Upload[]): void {
    this.list = list
    for (const listener of this.listeners) listener()
  }
}

function refused(message: string, nextAction = 'choose another file'): FoundryError {
  return new FoundryError({ code: 3, reason: 'INVALID_FIELD', message, nextAction })
}

async function bytesOf(file: File): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return new Uint8Array(await file.arrayBuffer())
  } catch (reason) {
    throw unreadable(reason)
  }
}

function unreadable(reason: unknown): FoundryError {
  const message = `the browser cannot read the file: ${reason instanceof Error ? reason.message : String(reason)}`
  return new FoundryError({ code: 3, reason: 'INVALID_FIELD', message, nextAction: 'choose the file again; folders cannot be attached' })
}

// Characters that the server refuses in names: slashes, control characters, and invisible marks.
// biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern is for these characters
const unfit = /[/\\\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g

/** A file's name in a form that the server accepts. */
export function cleanName(name: string): string {
  let clean = name.replaceAll(unfit, '').trim()
  // Cut at the start, because the end has the file's extension.
  if (clean.length > MAX_NAME_BYTES) clean = [...clean].slice(-MAX_NAME_BYTES).join('')
  while (new TextEncoder().encode(clean).length > MAX_NAME_BYTES) clean = [...clean].slice(1).join('')
  return clean === '' || clean === '.' || clean === '..' ? 'file' : clean
}

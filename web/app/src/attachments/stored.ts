import type { Foundry } from '@foundry/client'
import { AttachmentService } from '@foundry/client/gen/foundry/provisioner/v1/attachment_service_pb'
import { isPicture } from './kinds'

/** Most files that are kept, so that a long transcript does not fill the memory. */
const KEPT = 24

interface Stored {
  readonly url: Promise<string>
  users: number
}

/** The bytes of stored files as object URLs; each is loaded once, and dropped when it is no longer shown. */
class StoredFiles {
  private readonly files = new Map<string, Stored>()

  constructor(private readonly client: Foundry) {}

  /** The object URL of a file; valid until `letGo`. */
  hold(attachmentId: string): Promise<string> {
    const known = this.files.get(attachmentId)
    const file = known ?? { url: this.read(attachmentId), users: 0 }
    file.users += 1
    // The most recently used files are at the end.
    this.files.delete(attachmentId)
    this.files.set(attachmentId, file)
    if (known === undefined) file.url.catch(() => this.files.get(attachmentId) === file && this.files.delete(attachmentId))
    this.trim()
    return file.url
  }

  /** Releases a file that was held. */
  letGo(attachmentId: string): void {
    const file = this.files.get(attachmentId)
    if (file !== undefined) file.users -= 1
    this.trim()
  }

  private trim(): void {
    for (const [id, file] of this.files) {
      if (this.files.size <= KEPT) return
      if (file.users > 0) continue
      this.files.delete(id)
      file.url.then(URL.revokeObjectURL, () => undefined)
    }
  }

  private async read(attachmentId: string): Promise<string> {
    const { attachment, content } = await this.client.callsOf(AttachmentService).getAttachment({ attachmentId })
    // Only what was detected as a picture gets its type; nothing else can be opened as a page of this origin.
    const type = isPicture(attachment?.mediaType ?? '') ? attachment?.mediaType : 'application/octet-stream'
    return URL.createObjectURL(new Blob([new Uint8Array(content)], { type }))
  }
}

const stores = new WeakMap<Foundry, StoredFiles>()

/** The files that this client has loaded. */
export function storedFiles(client: Foundry): StoredFiles {
  let store = stores.get(client)
  if (store === undefined) {
    store = new StoredFiles(client)
    stores.set(client, store)
  }
  return store
}

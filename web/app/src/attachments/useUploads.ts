import { AttachmentService } from '@foundry/client/gen/foundry/provisioner/v1/attachment_service_pb'
import { useFoundry } from '@foundry/client/react'
import { useEffect, useMemo, useState, useSyncExternalStore, type ClipboardEvent, type DragEvent } from 'react'
import { announce } from '../ui'
import { MAX_FILES, Uploads, type Upload } from './uploads'

/** The files of the message being written, and how they are added. */
export interface UploadField {
  readonly uploads: Uploads
  readonly files: readonly Upload[]
  /** Ids of all files; undefined while one is being sent or has failed. */
  readonly ids: readonly string[] | undefined
  readonly add: (files: readonly File[]) => void
  /** Which files were refused the last time, for people; empty when none were. */
  readonly refusal: string
  /** For the element that files are pasted into and dropped on. */
  readonly target: {
    readonly onPaste: (event: ClipboardEvent) => void
    readonly onDragOver: (event: DragEvent) => void
    readonly onDragLeave: (event: DragEvent) => void
    readonly onDrop: (event: DragEvent) => void
    readonly 'data-dropping': boolean
  }
}

/** Without this, a file dropped next to the field would replace the page, and the text with it. */
function keepPage(): () => void {
  const stay = (event: globalThis.DragEvent) => {
    if (event.defaultPrevented || event.dataTransfer?.types.includes('Files') !== true) return
    event.preventDefault()
    event.dataTransfer.dropEffect = 'none'
  }
  addEventListener('dragover', stay)
  addEventListener('drop', stay)
  return () => {
    removeEventListener('dragover', stay)
    removeEventListener('drop', stay)
  }
}

/** Files for a message of this organization. They live as long as the component: a draft keeps only text. */
export function useUploads(organizationId: string): UploadField {
  const client = useFoundry()
  const uploads = useMemo(() => {
    const put = async (requestId: string, name: string, content: Uint8Array<ArrayBuffer>, signal: AbortSignal) => {
      const calls = client.callsOf(AttachmentService)
      const { attachment } = await calls.putAttachment({ requestId, organizationId, name, content }, { signal })
      if (attachment === undefined) throw new Error('the response contains no file')
      return attachment
    }
    return new Uploads(put)
  }, [client, organizationId])
  useEffect(() => () => uploads.dispose(), [uploads])
  useEffect(() => keepPage(), [])
  const files = useSyncExternalStore(uploads.subscribe, uploads.get)
  const [refusal, setRefusal] = useState('')
  const [dropping, setDropping] = useState(false)
  const add = (chosen: readonly File[]) => {
    if (chosen.length === 0) return
    const { refused } = uploads.add(chosen)
    setRefusal(refused === 0 ? '' : `The limit is ${MAX_FILES} files per message; ${refused} of these were not attached.`)
    announce(`${chosen.length - refused === 1 ? '1 file' : `${chosen.length - refused} files`} attached`)
  }
  const target = {
    onPaste: (event: ClipboardEvent) => {
      const pasted = [...event.clipboardData.files]
      // Text from an office program has a picture of itself attached: the text is meant.
      if (pasted.length === 0 || event.clipboardData.types.includes('text/plain')) return
      event.preventDefault()
      add(pasted)
    },
    onDragOver: (event: DragEvent) => {
      if (!event.dataTransfer.types.includes('Files')) return
      event.preventDefault()
      event.dataTransfer.dropEffect = 'copy'
      setDropping(true)
    },
    onDragLeave: (event: DragEvent) => {
      if (!(event.relatedTarget instanceof Node && event.currentTarget.contains(event.relatedTarget))) setDropping(false)
    },
    onDrop: (event: DragEvent) => {
      setDropping(false)
      if (!event.dataTransfer.types.includes('Files')) return
      event.preventDefault()
      add([...event.dataTransfer.files])
    },
    'data-dropping': dropping,
  }
  const ids = files.map((each) => each.attachment?.attachmentId)
  return { uploads, files, ids: ids.every((id) => id !== undefined) ? ids : undefined, add, refusal, target }
}

import { Button } from '@mantine/core'
import type { Attachment } from '@foundry/client/gen/foundry/common/v1/transcript_pb'
import { useFoundry } from '@foundry/client/react'
import { IconDownload, IconFile, IconPhotoOff } from '@tabler/icons-react'
import { useEffect, useState } from 'react'
import { InertLine } from '../ui/text/Inert'
import { sizeText } from '../ui/text/size'
import { visibleLine } from '../ui/text/visible'
import { errorText, lazyDialog, toastError } from '../ui'
import classes from './attachments.module.css'
import { isPicture, reasonText } from './kinds'
import { storedFiles } from './stored'

const PictureDialog = lazyDialog('The picture could not be opened', () => import('./PictureDialog').then((it) => it.PictureDialog))

/**
 * Files of a message or of the agent. Pictures are shown without any effect; other files have a name and can be
 * saved.
 */
export function StoredFiles({ files, label }: { files: readonly Attachment[]; label: string }) {
  if (files.length === 0) return null
  return (
    <ul className={classes.stored} aria-label={label}>
      {files.map((file, at) => (
        <li key={file.attachmentId === '' ? at : file.attachmentId}>
          <StoredFile file={file} />
        </li>
      ))}
    </ul>
  )
}

/** One stored file. */
export function StoredFile({ file }: { file: Attachment }) {
  if (file.attachmentId === '') {
    return (
      <span className={classes.file}>
        <IconPhotoOff size={18} aria-hidden className={classes.glyph} />
        <Named file={file} /> <span className={classes.facts}>Not stored: {reasonText(file.reason)}</span>
      </span>
    )
  }
  return isPicture(file.mediaType) ? <Picture file={file} /> : <Saved file={file} />
}

function Named({ file }: { file: Attachment }) {
  return (
    <span className={classes.what}>
      <InertLine text={file.name} className={classes.name} />
      <span className={classes.facts}>
        {visibleLine(file.mediaType)}
        {file.size > 0n && `, ${sizeText(file.size)}`}
      </span>
    </span>
  )
}

/** The object URL of a stored file, loaded when it is first shown. */
function useAddress(attachmentId: string, attempt: number): { readonly url?: string; readonly error?: unknown } {
  const client = useFoundry()
  const [state, setState] = useState<{ url?: string; error?: unknown }>({})
  useEffect(() => {
    let shown = true
    const files = storedFiles(client)
    files.hold(attachmentId).then(
      (url) => shown && setState({ url }),
      (error: unknown) => shown && setState({ error }),
    )
    return () => {
      shown = false
      files.letGo(attachmentId)
    }
  }, [client, attachmentId, attempt])
  return state
}

function Picture({ file }: { file: Attachment }) {
  const [attempt, setAttempt] = useState(0)
  const [broken, setBroken] = useState(false)
  const [open, setOpen] = useState(false)
  const { url, error } = useAddress(file.attachmentId, attempt)
  const name = visibleLine(file.name)
  if (error !== undefined) {
    const text = errorText(error)
    return (
      <span className={classes.file}>
        <IconPhotoOff size={18} aria-hidden className={classes.glyph} />
        <Named file={file} /> <span className={classes.facts}>{text.reason === 'NOT_FOUND' ? 'The file was deleted.' : text.message}</span>
        {text.retryable && (
          <Button size="compact-xs" variant="default" onClick={() => setAttempt(attempt + 1)}>
            Try again
          </Button>
        )}
      </span>
    )
  }
  // A file that only starts like a picture can still be saved.
  if (broken) return <Saved file={file} />
  return (
    <>
      <button
        type="button"
        className={classes.picture}
        aria-label={`Enlarge picture ${name}`}
        disabled={url === undefined}
        onClick={() => setOpen(true)}
      >
        {url === undefined ? (
          <span className={classes.waiting} aria-hidden />
        ) : (
          <img src={url} alt={name} className={classes.small} onError={() => setBroken(true)} />
        )}
      </button>
      <PictureDialog opened={open} onClose={() => setOpen(false)} name={name} url={url}>
        <Named file={file} />
        <SaveButton file={file} />
      </PictureDialog>
    </>
  )
}

function Saved({ file }: { file: Attachment }) {
  return (
    <span className={classes.file}>
      <IconFile size={18} aria-hidden className={classes.glyph} />
      <Named file={file} />
      <SaveButton file={file} />
    </span>
  )
}

function SaveButton({ file }: { file: Attachment }) {
  const client = useFoundry()
  const [busy, setBusy] = useState(false)
  const save = async () => {
    setBusy(true)
    const files = storedFiles(client)
    try {
      const link = document.createElement('a')
      link.href = await files.hold(file.attachmentId)
      link.download = file.name
      link.click()
    } catch (error) {
      toastError('The file was not saved', error)
    } finally {
      files.letGo(file.attachmentId)
      setBusy(false)
    }
  }
  return (
    <Button
      size="compact-xs"
      variant="default"
      leftSection={<IconDownload size={13} />}
      aria-label={`Save ${visibleLine(file.name)}`}
      loading={busy}
      onClick={() => void save()}
    >
      Save
    </Button>
  )
}

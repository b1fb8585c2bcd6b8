import { ActionIcon, Button, Loader, Tooltip } from '@mantine/core'
import { IconFile, IconPaperclip, IconX } from '@tabler/icons-react'
import { useRef } from 'react'
import { InertLine } from '../ui/text/Inert'
import { sizeText } from '../ui/text/size'
import { visibleLine } from '../ui/text/visible'
import { errorText } from '../ui'
import classes from './attachments.module.css'
import type { Upload } from './uploads'
import type { UploadField } from './useUploads'

/** The button that opens the file dialog. */
export function AttachButton({ field }: { field: UploadField }) {
  const input = useRef<HTMLInputElement>(null)
  return (
    <>
      <input
        ref={input}
        type="file"
        multiple
        hidden
        aria-label="Files to attach"
        onChange={(event) => {
          field.add([...(event.currentTarget.files ?? [])])
          // So that the same file can be chosen again.
          event.currentTarget.value = ''
        }}
      />
      <Tooltip label="Attach pictures or files, or paste or drop them">
        <ActionIcon variant="subtle" aria-label="Attach files" onClick={() => input.current?.click()}>
          <IconPaperclip size={16} />
        </ActionIcon>
      </Tooltip>
    </>
  )
}

/** The files of the message being written, with the progress of each. */
export function UploadList({ field }: { field: UploadField }) {
  const { files, uploads, refusal } = field
  if (files.length === 0 && refusal === '') return null
  return (
    <div className={classes.uploads}>
      {files.length > 0 && (
        <ul className={classes.list} aria-label="Attached files">
          {files.map((file) => (
            <Row key={file.key} file={file} onRemove={() => uploads.remove(file.key)} onRetry={() => uploads.retry(file.key)} />
          ))}
        </ul>
      )}
      <div className={classes.note} role="status">
        {refusal !== '' && <span className={classes.refusal}>{refusal} </span>}
        {files.length > 0 && 'Files are not saved with the draft. They stay in this tab until the message is sent.'}
      </div>
    </div>
  )
}

function Row({ file, onRemove, onRetry }: { file: Upload; onRemove: () => void; onRetry: () => void }) {
  const failed = file.state === 'failed'
  return (
    <li className={classes.upload} data-state={file.state} aria-busy={file.state === 'sending'}>
      {file.preview === undefined ? (
        <IconFile size={20} aria-hidden className={classes.glyph} />
      ) : (
        <img src={file.preview} alt="" className={classes.thumbnail} />
      )}
      <span className={classes.what}>
        <InertLine text={file.name} className={classes.name} />
        <span className={classes.facts}>
          {file.state === 'sending' ? `Sending ${sizeText(file.size)}…` : failed ? problem(file.error) : sizeText(file.size)}
        </span>
      </span>
      {file.state === 'sending' && <Loader size={14} aria-hidden />}
      {failed && file.retryable && (
        <Button size="compact-xs" variant="default" onClick={onRetry}>
          Try again
        </Button>
      )}
      <ActionIcon size="sm" variant="subtle" aria-label={`Remove ${visibleLine(file.name)}`} onClick={onRemove}>
        <IconX size={14} />
      </ActionIcon>
    </li>
  )
}

function problem(error: unknown): string {
  const { message, nextAction } = errorText(error)
  return nextAction === '' ? message : `${message} ${nextAction.charAt(0).toUpperCase()}${nextAction.slice(1)}.`.replace('..', '.')
}

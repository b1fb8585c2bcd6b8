import { useFoundry } from '@foundry/client/react'
import { IconChevronRight } from '@tabler/icons-react'
import type { FileChange } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { memo, useState } from 'react'
import { CopyButton, DiffStat, ErrorState, TextSkeleton } from '../../../ui'
import { useRead } from '../../../state/read'
import { InertLine } from '../../../ui/text/Inert'
import { sizeText } from '../../../ui/text/size'
import { visibleLine } from '../../../ui/text/visible'
import classes from './changes.module.css'
import { Patch } from './Patch'
import type { DiffChoice } from './useDiffChoice'

interface Props {
  taskId: string
  file: FileChange
  version: bigint
  /** Whether it is compared with the base alone, merged branches included. */
  whole: boolean
  choice: DiffChoice
  startsOpen: boolean
}

const kinds: Readonly<Record<string, { letter: string; word: string }>> = {
  added: { letter: 'A', word: 'added' },
  modified: { letter: 'M', word: 'modified' },
  deleted: { letter: 'D', word: 'deleted' },
  renamed: { letter: 'R', word: 'renamed' },
  type_changed: { letter: 'T', word: 'type changed' },
}

/** A changed file; its diff is loaded and rendered when it is opened. */
export const ChangedFile = memo(function ChangedFile({ taskId, file, version, whole, choice, startsOpen }: Props) {
  const [open, setOpen] = useState(startsOpen)
  const kind = kinds[file.kind] ?? { letter: '?', word: file.kind }
  return (
    <li className={classes.file}>
      <div className={classes.fileHead}>
        <button type="button" className={classes.fileButton} aria-expanded={open} onClick={() => setOpen(!open)}>
          <IconChevronRight size={14} aria-hidden className={classes.chevron} data-open={open} />
          <span className={classes.kind} data-kind={file.kind} title={kind.word} aria-label={kind.word} role="img">
            {kind.letter}
          </span>
          <Path file={file} />
        </button>
        <DiffStat additions={file.additions} deletions={file.deletions} />
        <CopyButton value={file.path} label="Copy path" />
      </div>
      {open && <Opened taskId={taskId} file={file} version={version} whole={whole} choice={choice} />}
    </li>
  )
})

function Path({ file }: { file: FileChange }) {
  const cut = file.path.lastIndexOf('/') + 1
  return (
    <span className={classes.path} title={visibleLine(file.path)}>
      {file.oldPath !== '' && file.oldPath !== file.path && (
        <>
          <InertLine text={file.oldPath} className="fd-muted" /> →{' '}
        </>
      )}
      {cut > 0 && <InertLine text={file.path.slice(0, cut)} className="fd-muted" />}
      <InertLine text={file.path.slice(cut)} className={classes.name} />
    </span>
  )
}

function Opened({ taskId, file, version, whole, choice }: Omit<Props, 'startsOpen'>) {
  if (file.binary) return <p className={classes.note}>Binary file; its content is not shown.</p>
  if (file.tooLarge) {
    return (
      <p className={classes.note}>
        The diff is too large to store ({sizeText(file.patchSize)}; the limit is 1 MiB). The change is in the sandbox.
      </p>
    )
  }
  return <Loaded taskId={taskId} file={file} version={version} whole={whole} choice={choice} />
}

function Loaded({ taskId, file, version, whole, choice }: Omit<Props, 'startsOpen'>) {
  const client = useFoundry()
  const { path } = file
  const diff = useRead(`${taskId}:${path}@${version}${whole ? '/whole' : ''}`, (signal) =>
    client.task.getFileDiff({ taskId, path, version, whole }, { signal }),
  )
  if (diff.data === undefined) {
    if (diff.error !== undefined)
      return <ErrorState error={diff.error} title="The diff could not be loaded" onRetry={diff.reload} compact />
    return (
      <div className={classes.note}>
        <TextSkeleton lines={4} label="Loading the diff" />
      </div>
    )
  }
  return <Patch bytes={diff.data.patch} path={path} choice={choice} />
}

import { ActionIcon, Button, Checkbox, Tooltip } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { IconChevronRight, IconMessagePlus } from '@tabler/icons-react'
import { ReviewSide, type FileChange } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { memo, useEffect, useRef, useState, type RefObject } from 'react'
import { CopyButton, DiffStat, ErrorState, TextSkeleton } from '../../../ui'
import { useCommand } from '../../../state/command'
import { useRead } from '../../../state/read'
import { InertLine } from '../../../ui/text/Inert'
import { counted, sizeText } from '../../../ui/text/size'
import { visibleLine } from '../../../ui/text/visible'
import { CommentView } from '../review/CommentView'
import { HeldEditor } from '../review/HeldEditor'
import { reached, useGoal } from '../review/goTo'
import type { Compared } from '../review/places'
import { beginComment, newComment, useReviewHere } from '../review/useReview'
import classes from './changes.module.css'
import { Patch } from './Patch'
import type { DiffChoice } from './useDiffChoice'

interface Props {
  taskId: string
  file: FileChange
  version: bigint
  compared: Compared
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
export const ChangedFile = memo(function ChangedFile({ taskId, file, version, compared, choice, startsOpen }: Props) {
  const review = useReviewHere()
  const known = review.isViewed(file)
  /** What was pressed and is not answered yet. */
  const [asked, setAsked] = useState<boolean>()
  const viewed = asked ?? known
  const written = review.editor?.path === file.path
  const [open, setOpen] = useState((startsOpen && !viewed) || written)
  const kind = kinds[file.kind] ?? { letter: '?', word: file.kind }
  const head = useRef<HTMLDivElement>(null)
  const count = review.comments.filter((it) => it.comment.path === file.path).length
  const mark = useCommand('The file was not marked', async (_: string, on: boolean) => await review.mark(file, on), true)
  useWanted(file.path, setOpen, head)
  const choose = (on: boolean) => {
    setAsked(on)
    setOpen(!on)
    void mark.run(on).then(() => setAsked(undefined))
  }
  const comment = () => {
    setOpen(true)
    const { path, oldPath, content } = file
    const place = { path, oldPath, content, since: String(compared.since), whole: compared.whole }
    beginComment(review, { ...newComment(), ...place, side: ReviewSide.FILE, start: 0, end: 0, lines: [] })
  }
  return (
    <li className={classes.file} data-file="" data-viewed={viewed}>
      <div ref={head} className={classes.fileHead}>
        <button type="button" className={classes.fileButton} aria-expanded={open} onClick={() => setOpen(!open)}>
          <IconChevronRight size={14} aria-hidden className={classes.chevron} data-open={open} />
          <span className={classes.kind} data-kind={file.kind} title={kind.word} aria-label={kind.word} role="img">
            {kind.letter}
          </span>
          <Path file={file} />
        </button>
        <DiffStat additions={file.additions} deletions={file.deletions} />
        {review.canComment && (
          <Tooltip label="Comment on the file">
            <ActionIcon size="sm" aria-label={`Comment on the file ${visibleLine(file.path)}`} data-comment-file onClick={comment}>
              <IconMessagePlus size={15} />
            </ActionIcon>
          </Tooltip>
        )}
        {written && !open && (
          <Button size="compact-xs" variant="light" onClick={() => setOpen(true)}>
            Unfinished comment
          </Button>
        )}
        {count > 0 && (
          <span className={classes.comments} title={counted(count, 'comment')}>
            {count}
          </span>
        )}
        <Checkbox
          size="xs"
          label="Viewed"
          aria-label={`Viewed ${visibleLine(file.path)}`}
          data-viewed-box
          checked={viewed}
          onChange={(event) => choose(event.currentTarget.checked)}
        />
        <CopyButton value={file.path} label="Copy path" />
      </div>
      {open && <Opened taskId={taskId} file={file} version={version} compared={compared} choice={choice} />}
    </li>
  )
})

/** Opens the file and shows it when a place in it is wanted. */
function useWanted(path: string, setOpen: (open: boolean) => void, head: RefObject<HTMLElement | null>): void {
  const goal = useGoal(path)
  useEffect(() => {
    if (goal === undefined) return
    setOpen(true)
    head.current?.scrollIntoView?.({ block: 'start' })
    head.current?.querySelector('button')?.focus({ preventScroll: true })
    if (goal.line === 0) reached(goal.number)
  }, [goal, setOpen, head])
}

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

function Opened(props: Omit<Props, 'startsOpen'>) {
  const { file } = props
  const review = useReviewHere()
  const onFile = review.comments.filter((it) => it.comment.path === file.path && it.comment.side === ReviewSide.FILE)
  const open = review.editor
  const editor = open?.path === file.path && open.side === ReviewSide.FILE && !open.existing ? open : undefined
  return (
    <>
      {onFile.map((placed) => (
        <CommentView key={placed.comment.commentId} placed={placed} />
      ))}
      {editor !== undefined && <HeldEditor editor={editor} now={{ ...editor, content: file.content }} />}
      <Content {...props} />
    </>
  )
}

function Content(props: Omit<Props, 'startsOpen'>) {
  const { file } = props
  if (file.binary) return <WithoutLines file={file} text="Binary file; its content is not shown." />
  if (file.tooLarge) return <TooLarge file={file} />
  return <Loaded {...props} />
}

function TooLarge({ file }: { file: FileChange }) {
  const size = `The diff is too large to store (${sizeText(file.patchSize)}; the limit is 1 MiB). The change is in the sandbox.`
  return <WithoutLines file={file} text={size} />
}

/** A file without lines, and comments that were made on lines when it had some. */
function WithoutLines({ file, text }: { file: FileChange; text: string }) {
  const review = useReviewHere()
  const apart = review.comments.filter((it) => it.comment.path === file.path && it.comment.side !== ReviewSide.FILE)
  return (
    <>
      {apart.map((placed) => (
        <CommentView key={placed.comment.commentId} placed={placed} apart />
      ))}
      <OnLines path={file.path} note="The lines of this comment are not shown any more." />
      <p className={classes.note}>{text}</p>
    </>
  )
}

/** A new comment on lines of a file that shows none. */
function OnLines({ path, note }: { path: string; note: string }) {
  const { editor } = useReviewHere()
  if (editor?.path !== path || editor.side === ReviewSide.FILE || editor.existing) return null
  return <HeldEditor editor={editor} note={note} />
}

function Loaded({ taskId, file, version, compared, choice }: Omit<Props, 'startsOpen'>) {
  const client = useFoundry()
  const { path, oldPath } = file
  const { since, whole } = compared
  const diff = useRead(`${taskId}:${path}@${version}${whole ? '/whole' : ''}/${since}`, (signal) =>
    client.task.getFileDiff({ taskId, path, oldPath, version, whole, sinceVersion: since }, { signal }),
  )
  if (diff.data === undefined) {
    if (diff.error !== undefined)
      return (
        <>
          <OnLines path={path} note="The lines of this comment could not be loaded." />
          <ErrorState error={diff.error} title="The diff could not be loaded" onRetry={diff.reload} compact />
        </>
      )
    return (
      <div className={classes.note}>
        <TextSkeleton lines={4} label="Loading the diff" />
      </div>
    )
  }
  // The size of a patch since an earlier version is known only here.
  if (diff.data.file?.tooLarge === true) return <TooLarge file={diff.data.file} />
  return <Patch bytes={diff.data.patch} file={diff.data.file ?? file} compared={compared} choice={choice} />
}

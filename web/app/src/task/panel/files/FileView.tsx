import { ActionIcon, Tooltip } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { IconArrowLeft } from '@tabler/icons-react'
import type { FileTreeEntry } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { memo, useMemo } from 'react'
import { CopyButton, ErrorState, TextSkeleton } from '../../../ui'
import { useRead } from '../../../state/read'
import { InertLine } from '../../../ui/text/Inert'
import { sizeText } from '../../../ui/text/size'
import { visible, visibleLine } from '../../../ui/text/visible'
import classes from './files.module.css'

/** Lines per chunk, which the browser lays out as one. */
const CHUNK = 200
/** Characters of a line that are shown. */
const LONGEST_LINE = 5000

interface Props {
  taskId: string
  entry: FileTreeEntry
  version: bigint
  onBack: () => void
}

/** The content of a file, with line numbers. */
export function FileView({ taskId, entry, version, onBack }: Props) {
  const client = useFoundry()
  const { path } = entry
  const readable = entry.kind === 'file'
  const file = useRead(readable ? `${taskId}:${path}@${version}` : undefined, (signal) => client.task.getFile({ taskId, path }, { signal }))
  return (
    <section className={classes.file} aria-label={`File ${visibleLine(path)}`}>
      <header className={classes.fileHead}>
        <Tooltip label="Back to the tree">
          <ActionIcon aria-label="Back to the tree" onClick={onBack} size="sm">
            <IconArrowLeft size={15} />
          </ActionIcon>
        </Tooltip>
        <InertLine text={path} className={classes.filePath} />
        <span className="fd-muted">
          {sizeText(entry.size)}
          {entry.executable && ', executable'}
        </span>
        <CopyButton value={path} label="Copy path" />
      </header>
      {!readable && (
        <p className={classes.note}>
          {entry.kind === 'symlink' ? 'Symbolic link; it is not followed.' : 'Submodule; its files are in another repository.'}
        </p>
      )}
      {file.error !== undefined && <ErrorState error={file.error} title="The file could not be loaded" onRetry={file.reload} compact />}
      {readable && file.data === undefined && file.error === undefined && (
        <div className={classes.note}>
          <TextSkeleton lines={8} label="Loading the file" />
        </div>
      )}
      {file.data !== undefined && (
        <Content content={file.data.content} binary={file.data.binary} tooLarge={file.data.tooLarge} size={entry.size} />
      )}
    </section>
  )
}

function Content({ content, binary, tooLarge, size }: { content: Uint8Array; binary: boolean; tooLarge: boolean; size: bigint }) {
  if (tooLarge) return <p className={classes.note}>The file is {sizeText(size)}; files over 1 MiB are not shown.</p>
  if (binary) return <p className={classes.note}>Binary file ({sizeText(size)}); its content is not shown.</p>
  if (content.length === 0) return <p className={classes.note}>The file is empty.</p>
  return <Lines content={content} />
}

const Lines = memo(function Lines({ content }: { content: Uint8Array }) {
  const chunks = useMemo(() => chunksOf(new TextDecoder().decode(content)), [content])
  const digits = String(chunks.at(-1)?.last ?? 1).length
  return (
    <div className={classes.lines} tabIndex={0} role="region" aria-label="Content">
      {chunks.map((chunk) => (
        <div
          key={chunk.first}
          className={classes.chunk}
          style={{ containIntrinsicBlockSize: `auto ${(chunk.last - chunk.first + 1) * 19}px` }}
        >
          <pre aria-hidden className={classes.numbers} style={{ width: `${digits + 2}ch` }}>
            {numbers(chunk.first, chunk.last)}
          </pre>
          <pre dir="ltr" className={classes.code}>
            {chunk.text}
          </pre>
        </div>
      ))}
    </div>
  )
})

interface Chunk {
  readonly first: number
  readonly last: number
  readonly text: string
}

/** The lines of a file in chunks that the browser lays out only when they are on the screen. */
export function chunksOf(text: string): Chunk[] {
  const lines = visible(text).split('\n')
  if (lines.at(-1) === '') lines.pop()
  const chunks: Chunk[] = []
  for (let at = 0; at < lines.length; at += CHUNK) {
    const some = lines.slice(at, at + CHUNK).map(cutLine)
    chunks.push({ first: at + 1, last: at + some.length, text: some.join('\n') })
  }
  return chunks
}

function cutLine(line: string): string {
  return line.length <= LONGEST_LINE ? line : `${line.slice(0, LONGEST_LINE)} … (${line.length} characters, truncated)`
}

function numbers(first: number, last: number): string {
  return Array.from({ length: last - first + 1 }, (_, at) => first + at).join('\n')
}

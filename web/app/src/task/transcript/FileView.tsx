import { StoredFile } from '../../attachments'
import type { FileBlock } from './blocks'
import classes from './transcript.module.css'

/** A picture or another file that the agent shows. */
export function FileView({ block, agent }: { block: FileBlock; agent: string }) {
  const { attachment, toolCallId } = block.file
  if (attachment === undefined) return null
  return (
    <article
      className={classes.agent}
      aria-label={toolCallId === '' ? `File from the agent ${agent}` : `File from a tool of the agent ${agent}`}
    >
      <StoredFile file={attachment} />
    </article>
  )
}

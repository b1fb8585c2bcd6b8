import { Button } from '@mantine/core'
import type { FileChange } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { memo, useMemo, useRef, useState } from 'react'
import { Decoration, Diff, Hunk, markEdits, tokenize, type HunkData, type HunkTokens } from 'react-diff-view'
import 'react-diff-view/style/index.css'
import { SHOWN_FIRST } from '../../../ui/text/limits'
import { LongText } from '../../../ui/text/LongText'
import { InertText } from '../../../ui/text/Inert'
import { visibleLine } from '../../../ui/text/visible'
import { CommentView } from '../review/CommentView'
import type { Compared } from '../review/places'
import { useLines } from '../review/useLines'
import review from '../review/review.module.css'
import classes from './changes.module.css'
import './diff.css'
import { firstLines, lineCount, parsePatch } from './parse'
import type { DiffChoice } from './useDiffChoice'

/** Lines of a diff that are rendered before the button for more. */
const AT_ONCE = 800

interface Props {
  bytes: Uint8Array
  file: FileChange
  compared: Compared
  choice: DiffChoice
}

/** The patch of one file as a table of lines, with the comments on them. */
export const Patch = memo(function Patch({ bytes, file, compared, choice }: Props) {
  const text = useMemo(() => new TextDecoder().decode(bytes), [bytes])
  const parsed = useMemo(() => parsePatch(text), [text])
  const [lines, setLines] = useState(AT_ONCE)
  const hunks = useMemo(() => firstLines(parsed?.hunks ?? [], lines), [parsed, lines])
  const tokens = useMemo(() => edits(hunks), [hunks])
  const region = useRef<HTMLDivElement>(null)
  const on = useLines(region, file, hunks, compared)
  const apart = (
    <>
      {on.apart.length > 0 && (
        <div className={review.apart}>
          {on.apart.map((placed) => (
            <CommentView key={placed.comment.commentId} placed={placed} apart />
          ))}
        </div>
      )}
      {on.editorApart}
    </>
  )
  if (parsed === undefined) {
    return (
      <>
        {apart}
        <Unparsed text={text} />
      </>
    )
  }
  const all = lineCount(parsed.hunks)
  return (
    <>
      {apart}
      <div
        ref={region}
        className={classes.diff}
        data-wrap={choice.wrap}
        data-view={choice.view}
        tabIndex={0}
        role="region"
        aria-label={`Diff of ${visibleLine(file.path)}`}
        aria-keyshortcuts="ArrowDown ArrowUp Shift+ArrowDown Shift+ArrowUp c"
        onKeyDown={on.onKeyDown}
      >
        <Diff
          viewType={choice.view}
          diffType={parsed.type}
          hunks={hunks}
          tokens={tokens}
          widgets={on.widgets}
          selectedChanges={on.selected}
          gutterEvents={on.gutterEvents}
        >
          {(drawn) =>
            drawn.flatMap((hunk, at) => [
              <Decoration key={`head ${at}`} className={classes.hunkHead}>
                <span>{hunk.content}</span>
              </Decoration>,
              <Hunk key={at} hunk={hunk} />,
            ])
          }
        </Diff>
        {all > lines && (
          <Button variant="default" m="xs" onClick={() => setLines(lines + 2 * AT_ONCE)}>
            Show more ({all - lines} lines left)
          </Button>
        )}
      </div>
    </>
  )
})

/** The differences within changed lines; none where computing them could take long. */
function edits(hunks: HunkData[]): HunkTokens | undefined {
  const characters = hunks.reduce((sum, hunk) => sum + hunk.changes.reduce((each, change) => each + change.content.length, 0), 0)
  if (characters > 64 * 1024) return undefined
  return tokenize(hunks, { enhancers: [markEdits(hunks, { type: 'block' })] })
}

/** A change without lines: an empty file, a change of mode, or only a rename. */
function Unparsed({ text }: { text: string }) {
  if (text.trim() === '') return <p className={classes.note}>No lines changed.</p>
  return (
    <div className={classes.note}>
      {text.length > SHOWN_FIRST ? <LongText text={text} label="Patch" mono /> : <InertText text={text} mono />}
    </div>
  )
}
